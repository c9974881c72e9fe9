package assertion

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/serviceradar/poller/internal/check"
)

// assertions compiles expressions that are well.
func assertions(tb testing.TB, texts ...string) *check.Assertions {
	tb.Helper()
	list := make([]*Assertion, len(texts))
	for i, text := range texts {
		a, err := Compile(text)
		if err != nil {
			tb.Fatalf("%s: %v", text, err)
		}
		list[i] = a
	}
	return All(list)
}

func answer(message string) check.Answer {
	return check.Answer{Available: true, Message: []byte(message), ResponseTime: 1500 * time.Millisecond}
}

// TestUnmet: what holds, and what is said of what does not; want is empty, or what follows the expression.
func TestUnmet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, message, want string }{
		{`data.packet_loss < 20`, `{"packet_loss":5}`, ``},
		{`data.packet_loss < 20`, ` {"a":[{}],"packet_loss":5e0,"z":"\u0041"} `, ``},
		{`data.packet_loss < 20`, `{"packet_loss":35}`, `data.packet_loss is 35`},
		{`data.packet_loss < data.most`, `{"packet_loss":35,"most":1.5}`, `data.packet_loss is 35, data.most is 1.5`},
		{`data.packet_loss < 20`, `{"packet_loss":5,"packet_loss":35}`, `data.packet_loss is 35`},
		{`data.status == 'SERVING'`, `{"status":"SERVING"}`, ``},
		{`data.status == "\uFFFD" and data["\uFFFD"] == 1`, "{\"status\":\"\xff\",\"\xff\":1}", ``},
		{`data.status == "\uFFFD\n"`, "{\"status\":\"\xff\\n\"}", ``},
		{`data.status == "SERVING"`, `{"status":"NOT_\u0053ERVING\n"}`, `data.status is "NOT_SERVING\n"`},
		{`data.a.b["c d"][0] and data.ok`, `{"a":{"b":{"c d":[true]}},"ok":true}`, ``},
		{`data.a["b"][-1] > 3 || data.a.b[5] > 3`, `{"a":{"b":[9,2]}}`, `data.a.b has no [5]`},
		{`data.a[data.k] == 1`, `{"a":{"x":2},"k":"x"}`, `data.k is "x", data.a[data.k] is another each time`},
		{`response_time < 2 and available`, `no JSON, and nobody asks for it`, ``},
		{`response_time < 0.5`, ``, `response_time is 1.5`},
		{`data > 3`, `4`, ``},
		{`data > 3`, `2`, `data is 2`},
		{`data[1].x == nil`, `[0,{"x":null}]`, ``},
		{`len(data) > 1`, `{"a":1}`, `data is {"a": 1}`},
		{`1 > 2`, ``, "-"},

		// What is missing is a failure, unless it is said what then.
		{`data.packet_loss < 20`, `{}`, `data has no packet_loss`},
		{`data["packet loss"] < 20`, `{"packet_loss":1}`, `data has no ["packet loss"]`},
		{`data.x != 'DOWN'`, `{"y":1}`, `data has no x`},
		{`not (data.x == 'DOWN')`, `{"y":1}`, `data has no x`},
		{`data.x == nil`, `{"y":1}`, `data has no x`},
		{`data.x not in ['DOWN']`, `{"y":1}`, `data has no x`},
		{`data.x > 3`, `[1]`, `data has no x`},
		{`data[0] > 3`, `{"x":1}`, `data has no [0]`},
		{`data.x.y > 3`, `{"x":{}}`, `data.x has no y`},
		{`data.x.y > 3`, `{"x":null}`, `data.x is null and has no y`},
		{`data.x.y > 3`, `{"x":"z"}`, `data.x is "z" and has no y`},
		{`(data.x.y ?? 5) > 3`, `{}`, ``},
		{`(data.x.y ?? 5) > 3`, `{"x":null}`, ``},
		{`(data.x.y ?? 5) > 3`, `{"x":{"y":2}}`, `data.x.y is 2`},
		{`(data.x.y ?? 2) > 3`, `{}`, `data.x.y is not there`},
		{`(data.x.y ?? 5) > 3`, `{"x":1}`, `data.x is 1 and has no y`},
		{`data?.x?.y == nil`, `{}`, ``},
		{`"x" in data ? data.x > 3 : true`, `{}`, ``},
		{`"x" not in data or data.x > 3`, `{"x":3,"y":"much"}`, `data.x is 3`},
		{`data.y or data.x > 3`, `{"y":true}`, ``},

		// And so are types that do not go together.
		{`data.x < 3`, `{"x":"2"}`, `data.x is "2" (invalid operation: string < int)`},
		{`data.x < 3`, `{"x":null}`, `data.x is null (invalid operation: <nil> < int)`},
		{`data.x != 'DOWN'`, `{"x":5}`, `data.x is 5 (a number is compared with a text)`},
		{`data.x != 'DOWN'`, `{"x":null}`, `data.x is null (null is compared with a text)`},
		{`data.x != nil`, `{"x":false}`, ``},
		{`data.x != data.y`, `{"x":[1],"y":{"a":true}}`, `data.x is [1], data.y is {"a": true} (a list is compared with an object)`},
		{`data.x == data.y`, `{"x":[1,{"a":"b"}],"y":[1,{"a":"b"}]}`, ``},
		{`data.x not in ['DOWN', 'AWAY']`, `{"x":5}`, `data.x is 5 (a number is looked for where there is none)`},
		{`data.x not in ['DOWN', 'AWAY']`, `{"x":"UP"}`, ``},
		{`data.x in [1, 2]`, `{"x":2.0}`, ``},
		{`data.x in [1.5, 2.5]`, `{"x":2}`, `data.x is 2`},
		{`data.x in ['a', 1]`, `{"x":"b"}`, `data.x is "b"`},
		{`data.x not in data.y`, `{"x":"b","y":[]}`, ``},
		{`data.x in data.y`, `{"x":"b","y":"abc"}`, `data.x is "b", data.y is "abc" (a text has nothing in it)`},
		{`data.x in data.y`, `{"x":1,"y":{"a":1}}`, `data.x is 1, data.y is {"a": 1} (a number is looked for among the keys of an object)`},
		{`not (data.x contains 'a')`, `{"x":null}`, `data.x is null (null stands where a text is wanted)`},
		{`data.x startsWith 'a' and data.x endsWith data.y`, `{"x":"ab","y":"b"}`, ``},
		{`data.x endsWith data.y`, `{"x":"ab","y":true}`, `data.x is "ab", data.y is true (true or false stands where a text is wanted)`},
		{`data.x matches '^a+$'`, `{"x":"aaa"}`, ``},
		{`not (data.x matches '^a+$')`, `{"x":7}`, `data.x is 7 (a number stands where a text is wanted)`},
		{`data.x`, `{"x":true}`, ``},
		{`data.x`, `{"x":1}`, `data.x is 1 (invalid operation: bool(int))`},
		{`not data.x`, `{"x":null}`, `data.x is null (a value is of the wrong type)`},
		{`data.x % data.y == 1`, `{"x":5,"y":0}`, `data.x is 5, data.y is 0 (runtime error: integer divide by zero)`},
		{`len(data.x) > 1`, `{"x":4}`, `data.x is 4 (invalid argument for len (type int))`},

		// Lists.
		{`all(data.disks, .used < 90)`, `{"disks":[{"used":1},{"used":89.5}]}`, ``},
		{`all(data.disks, .used < 90)`, `{"disks":[]}`, ``},
		{`all(data.disks, .used < 90)`, `{"disks":[{"used":1},{"used":90}]}`, `data.disks is [{"used": 1}, {"used": 90}]`},
		{`none(data.disks, .used > 90)`, `{"disks":[{"name":"a"}]}`, `an item has no used; data.disks is [{"name": "a"}]`},
		{`all(data.disks, .used < data.limit.most)`, `{"disks":[{"used":1}],"limit":{"most":2}}`, ``},
		{`all(data.hosts, all(.disks, # < 90))`, `{"hosts":[{"disks":[1]},{"disks":[2,91]}]}`, `data.hosts is [{"disks": [1]}, {"disks": [2, 91]}]`},
		{`all(data?.disks, # < data?.limit?.most)`, `{"disks":[1],"limit":{"most":2}}`, ``},
		{`all(data?.disks, # < 2)`, `{}`, `data.disks is not there (null stands where a list is wanted)`},
		{`(data?.x).y != 'DOWN'`, `{"x":{}}`, `data.x has no y`},
		{`count(data, #) == 2 && sum(data, # ? 1 : 0) == 2`, `[true,false,true]`, ``},
		{`all(data.x, # in data.y)`, `{"x":[1],"y":[1]}`, `data.y is [1]; what is evaluated for each item may take only numbers, short texts, true and false from data`},
		{`sum(data.x) + max(data.x) - min(data.x) == mean(data.x) + 6`, `{"x":[1,2,3]}`, ``},

		// Each of several lists is gone through.
		{`all(data.a, # < 1) and all(data.b, # < 1)`, `{"a":[0],"b":[5]}`, `data.a is [0], data.b is [5]`},
		{`any(data.a, # < 1) or any(data.b, # < 1)`, `{"a":[5],"b":[0]}`, ``},
		{`none(data.a, # > 1) and none(data.b, # > 1)`, `{"a":[0],"b":[5]}`, `data.a is [0], data.b is [5]`},
		{`all(data, all(.a, # < 1) and all(.b, # < 1))`, `[{"a":[0],"b":[5]}]`, `data is [{"a": [0], "b": [5]}]`},
		{`all(data.a[lower(data.k)], # < 1) and all(data.a[lower(data.l)], # < 1)`, `{"a":{"x":[0],"y":[5]},"k":"X","l":"Y"}`, `data.k is "X", data.a[lower(data.k)] is another each time, data.l is "Y", data.a[lower(data.l)] is another each time`},
		{`data.a[int(data.b.k)] == 1`, `{"a":[2],"b":{"k":0}}`, `data.b.k is 0, data.a[int(data.b.k)] is another each time`},

		// And only lists are.
		{`all(data.temps, # < 128)`, `{"temps":"sensor failed"}`, `data.temps is "sensor failed" (a text stands where a list is wanted)`},
		{`all(data.disks, .used < 90)`, `{"disks":{}}`, `data.disks is {} (an object stands where a list is wanted)`},
		{`any(data.x, true)`, `{"x":"a"}`, `data.x is "a" (a text stands where a list is wanted)`},
		{`none(data.x, true)`, `{"x":""}`, `data.x is "" (a text stands where a list is wanted)`},
		{`one(data.x, true)`, `{"x":"a"}`, `data.x is "a" (a text stands where a list is wanted)`},
		{`count(data.x) == 0`, `{"x":{}}`, `data.x is {} (an object stands where a list is wanted)`},
		{`sum(data.x) == 0`, `{"x":""}`, `data.x is "" (a text stands where a list is wanted)`},
		{`sum(data.x, 1) == 0`, `{"x":{}}`, `data.x is {} (an object stands where a list is wanted)`},
		{`sum(data.x) == 0`, `{"x":[]}`, ``},
		{`sum(data.x) == 0`, `{"x":["a"]}`, `data.x is ["a"] (a text stands where a number is wanted)`},
		{`mean(data.x) < 100`, `{"x":[]}`, `data.x is [] (no values)`},
		{`mean(data.x, data.x) < 100`, `{"x":[]}`, `data.x is [] (no values)`},
		{`mean(data.x) < 100`, `{"x":[[]]}`, `data.x is [[]] (a list stands where a number is wanted)`},
		{`max(data.x) == 'a'`, `{"x":"a"}`, `data.x is "a" (a text stands where a list is wanted)`},
		{`max(data.x, 3) == 3 and min(data.x, data.y) == 1`, `{"x":2,"y":[1,4]}`, ``},

		// What is missing is a failure wherever it comes from.
		{`not ((data.ok ? data.a : data.b) contains 'error')`, `{"ok":true,"a":null}`, `data.ok is true, data.a is null, data.b is not there (null stands where a text is wanted)`},
		{`'error' startsWith (data.a ?? data.b)`, `{"b":null}`, `data.a is not there, data.b is null (null stands where a text is wanted)`},
		{`(data.x ?? data.y ?? 0) == 0`, `{}`, ``},
		{`(data.x ?? (data.y ?? data.z) ?? 0) == 0`, `{}`, ``},
		{`(data.x ?? data.y) == 0`, `{}`, `data has no y`},

		// Twice in the tree.
		{`0 < data.a.b < 5`, `{"a":{"b":3}}`, ``},
		{`0 < data.a.b < 5`, `{"a":{"b":7}}`, `data.a.b is 7`},
		{`1 < len(data.x) < 5`, `{"x":[1,2]}`, ``},
		{`1 < sum(data.x) <= mean(data.x) * 2 < 5`, `{"x":[1,2]}`, ``},
		{`0 < data.x < 5 and len(data) > 1`, `{"x":1,"y":1}`, ``},
		{`0 < data["x"] + 1 < 5`, `{"x":1}`, ``},
		{`data.x ?: data.y`, `{"x":false,"y":true}`, ``},
		{`all(data.x, 0 < # < data.y < 5)`, `{"x":[1],"y":3}`, ``},

		// Numbers.
		{`int(data.x) < 0`, `{"x":1e19}`, `data.x is 1e+19 (1e+19 is beyond whole numbers of 64 bits)`},
		{`int(data.x) < 0`, `{"x":9223372036854775808}`, `data.x is 9.223372036854776e+18 (9.223372036854776e+18 is beyond whole numbers of 64 bits)`},
		{`int(data.x) == -9223372036854775808.0`, `{"x":-9223372036854775808.0}`, ``},
		{`data.x + 1 > 0`, `{"x":9223372036854775807}`, ``},
		{`data.x - 1 < 0`, `{"x":-9223372036854775808}`, ``},
		{`data.x * 2 > 0 and 2 * data.x > 0`, `{"x":9223372036854775807}`, ``},
		{`data.x * -1 > 0 and -1 * data.x > 0 and -data.x > 0 and abs(data.x) > 0`, `{"x":-9223372036854775808}`, ``},
		{`9223372036854775807 + 1 > 0`, ``, ``},
		{`data.x + 0 == 9007199254740993 and data.x - 0 == data.x and data.x * 1 == 9007199254740993`, `{"x":9007199254740993}`, ``},
		{`data.x - 5 == -2 and 5 - data.x == 2 and data.x + -5 == -2 and data.x * -2 == -6 and data.x * 0 == 0`, `{"x":3}`, ``},
		{`data.x + 'b' == 'ab' and data.x + data.x == 'aa'`, `{"x":"a"}`, ``},
		{`sum(data.x) > 0 and sum(data.x, # * 1) > 0`, `{"x":[9223372036854775807,9223372036854775807]}`, ``},
		{`sum(data.x) == 9007199254740991`, `{"x":[9007199254740990,1]}`, ``},
		{`data.x == 9007199254740993`, `{"x":9007199254740993}`, ``},
		{`data.x == 9007199254740993`, `{"x":9007199254740992}`, `data.x is 9007199254740992`},
		{`data.x > 9223372036854775806`, `{"x":9223372036854775807}`, ``},
		{`data.x > 9223372036854775806`, `{"x":18446744073709551615}`, ``},
		{`data.x == 5 and data.x == 5.0`, `{"x":5.0}`, ``},
		{`data.x == 5 and data.x == 5.0`, `{"x":5}`, ``},
		{`data.x < 0`, `{"x":-0.5}`, ``},
		{`data.x < 20`, `{"x":1e999}`, `data.x is +Inf`},
		{`data.x / 2 == 1.5`, `{"x":3}`, ``},

		// No JSON.
		{`data.x < 3`, ``, `the answer is empty`},
		{`data.x < 3`, " \n", `the answer is empty`},
		{`data.x < 3`, `UP and running`, `the answer is no JSON: "UP and running"`},
		{`data.x < 3`, `{"x":1} and more`, `the answer is no JSON: "{\"x\":1} and more"`},
		{`data.x < 3`, `{"x":1} 2`, `the answer is no JSON: "{\"x\":1} 2"`},
		{`data.x < 3`, `{"x":1`, `the answer is no JSON: "{\"x\":1"`},
		{`data.x < 3`, `{"x":1,"y":[}`, `the answer is no JSON: "{\"x\":1,\"y\":[}"`},
	} {
		want := tt.text + " does not hold: " + tt.want
		switch tt.want {
		case "":
			want = ""
		case "-":
			want = tt.text + " does not hold"
		}
		if got := assertions(t, tt.text).Unmet(answer(tt.message)); got != want {
			t.Errorf("%s with %s:\n%q, want\n%q", tt.text, tt.message, got, want)
		}
	}
}

// The first that does not hold is told; they share what is decoded.
func TestSeveral(t *testing.T) {
	t.Parallel()
	all := assertions(t, "response_time < 2", "data.a > 0", "data.b > 0", "data.a > 1")
	for message, want := range map[string]string{
		`{"a":2,"b":1}`:  "",
		`{"a":1,"b":1}`:  "data.a > 1 does not hold: data.a is 1",
		`{"a":1,"b":-1}`: "data.b > 0 does not hold: data.b is -1",
		`no`:             `data.a > 0 does not hold: the answer is no JSON: "no"`,
	} {
		if got := all.Unmet(answer(message)); got != want {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
	if want := "data.a > 1"; len(all.Texts) != 4 || all.Texts[3] != want {
		t.Errorf("texts %q", all.Texts)
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                  "want an expression such as",
		strings.Repeat("1", 1001):           "which has 1001 bytes, want an expression of at most 1000",
		"data.x <\n3":                       "without control characters",
		`data.x <`:                          "unexpected token EOF, at character 8",
		`dta.x.y < 3`:                       "unknown name dta",
		`available.y.z`:                     "at character",
		`response_time.y.z < 3`:             "at character",
		`dta.x < 3`:                         "unknown name dta; known are data, available and response_time, at character 1",
		`available < 3`:                     "mismatched types bool and int), at character 11",
		`len(data)`:                         "expected bool, but got int",
		`(data.a ?? data.b).msg == 'a'`:     "a key is taken of data or of an item only",
		`data.list[0:2][0].x == nil`:        "a key is taken of data or of an item only",
		`data.x + 1 and true`:               "",
		`$env.data.x < 3`:                   "unknown name $env",
		`now().Year() > 3`:                  "there is no function now; there are abs, all",
		`data.f(1)`:                         "there is no function data.f;",
		`"member of"(data, 1)`:              "at character",
		`map(data.x, #)[0] == 1`:            "there is no function map;",
		`reduce(data.x, #acc + #) > 1`:      "there is no function reduce;",
		`repeat("a", 999) == data.x`:        "there is no function repeat;",
		`let x = data.x; x > 3`:             "leave let x out",
		`data.x > 3; data.y > 3`:            "write each as an assertion of its own",
		`data.x in 1..9`:                    "ranges are not possible",
		`data.x matches data.y`:             "the pattern after matches has to be a text in quotes",
		`data.x matches "("`:                "missing closing )",
		`all(data.x, len(data) > #)`:        "within the braces of all, data wants a key after it",
		`all(data.x, data?.y and data)`:     "within the braces of all, data wants a key after it",
		`any([1, 2], # == data.x)`:          "any wants a list of data, such as any(data.disks, .used < 90)",
		strings.Repeat("1+", 400) + "1 > 0": "exceeds maximum allowed nodes",

		// Keys within keys.
		strings.Repeat("data[-", 140) + "0" + strings.Repeat("]", 140) + " > 0": "a key has to be simpler",
		strings.Repeat("data[-", 20) + "0" + strings.Repeat("]", 20) + " > 0":   "",

		// What the library has at two places, within each other.
		strings.Repeat("(", 100) + "data.x" + strings.Repeat("?:true)", 100): "it is too large",
		strings.Repeat("(0<", 40) + "data.x" + strings.Repeat("<5)", 40):     "it is too large",
		strings.Repeat("(", 6) + "data.x" + strings.Repeat("?:true)", 6):     "",
	} {
		_, err := Compile(text)
		switch {
		case want == "" && err == nil:
		case err == nil:
			t.Errorf("%s: no error", text)
		case want == "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: %q, want %q on one line", text, err, want)
		}
	}
}

// TestFunctionsAreDocumented: the README names each function.
func TestFunctionsAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range functions {
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("the README does not name %s", name)
		}
		if _, err := Compile(name + "(data)"); err != nil && strings.Contains(err.Error(), "there is no function") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is quoted is cut, and what takes too long is refused, whatever an answer says.
func TestBounds(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("é\\n", 1<<20) + `"`
	many := "[" + strings.Repeat("1,", maxValues) + "1]"
	for _, tt := range []struct{ text, message, want string }{
		{`data.x == 'a'`, `{"x":` + long + `}`, "data.x is \"é"},
		{`data.x < 3`, `{"x":{` + long + `:` + long + `}}`, "data.x is {\"é"},
		{`data.x < 3`, `{"x":[` + strings.Repeat("1,", 999) + `1]}`, "data.x is [1, 1"},
		{`data.x < 3`, long[1:], "the answer is no JSON: "},
		{`len(data.x) < 3`, `{"x":` + many + `}`, "the answer has more than 100000 values"},
		{`data.x < 3`, `{"y":` + many + `,"x":4}`, "data.x is 4"}, // what is not asked for does not count
		{`all(data.x, # != data.y)`, `{"x":[1],"y":` + long + `}`, "data.y is \"é"},
		{`data.x < 3`, `{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`, "data.x is [[["},
		{`data.x < 3`, strings.Repeat("[", 1<<20), "the answer is no JSON"},
	} {
		got := assertions(t, tt.text).Unmet(answer(tt.message))
		if len(got) > 400 || !strings.HasPrefix(got, tt.text+" does not hold: "+tt.want) {
			t.Errorf("%s: %d bytes, %.500q; want %q", tt.text, len(got), got, tt.want)
		}
	}
}

// Whatever it is of, what is shown of a value is short, and UTF-8.
func TestShow(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		strings.Repeat("é", 99), strings.Repeat("\n", 99), strings.Repeat("\xff", 200),
		[]any{strings.Repeat("é", 45), strings.Repeat("é", 45)},
		map[string]any{strings.Repeat("é", 60): map[string]any{"a": []any{1, 2, 3, "x"}}},
		make([]any, 1000),
		[]string{strings.Repeat("x", 101)},
	} {
		got := show(v)
		if len(got) > maxShown+len("…") || len(got) < maxShown-4 || !strings.HasSuffix(got, "…") || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}

// Of a large object no more is written than is shown, and of its answer nothing is kept.
func TestLarge(t *testing.T) {
	t.Parallel()
	members := map[string]any{}
	for i := range 10_000 {
		members[fmt.Sprint(i)] = "x"
	}
	if got := appendShown(nil, members); len(got) > 2*maxShown {
		t.Errorf("%d bytes are written", len(got))
	}
	large := `{"x":[` + strings.Repeat("1,", maxKept) + `1]}`
	for range 100 {
		if got := assertions(t, "all(data.x, # == 1)").Unmet(answer(large)); got != "" {
			t.Error(got)
		}
		e := evaluations.Get().(*evaluation)
		if e.values > maxKept {
			t.Fatalf("an evaluation of %d values is used again", e.values)
		}
	}
}

// TestManyAtOnce: evaluations beside each other do not mix.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	all := assertions(t, "data.x == data.y")
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() {
			for range 500 {
				if got := all.Unmet(answer(fmt.Sprintf(`{"x":%d,"y":%d}`, i, i))); got != "" {
					t.Error(got)
				}
				want := fmt.Sprintf("data.x == data.y does not hold: data.x is %d, data.y is -1", i)
				if got := all.Unmet(answer(fmt.Sprintf(`{"x":%d,"y":-1}`, i))); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
	calls.Wait()
}
