package assertion

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzEval: whatever a checker answers, an assertion holds or says in few words why it does not; of what is no JSON none holds
// that asks for data.
func FuzzEval(f *testing.F) {
	texts := []string{
		"data.x < 20", "data.x != 'a'", "not (data.x.y in [1, 2, 'a'])", "all(data.x, .y > 1)", "(data.x.y ?? data?.z) != nil", "len(data) > 2",
		"data[0].x matches 'a+' or data.x contains 'b'", "sum(data.x) == mean(data.x)", "'x' in data and data.x",
	}
	for _, message := range []string{
		``, `{}`, `{"x":1}`, `{"x":{"y":"a"}}`, `{"x":[{"y":2}]}`, `[{"x":"aa"}]`, `{"x":null,"x":[1e400,-0]}`, "{\"x\":\"\xff\"}", `{"\u0078":true}`, `nul`, `{"x":1}}`,
	} {
		for i := range texts {
			f.Add(byte(i), []byte(message))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, message []byte) {
		text := texts[int(which)%len(texts)]
		got := assertions(t, text).Unmet(answer(string(message)))
		if got != "" && !strings.HasPrefix(got, text+" does not hold: ") || len(got) > 1000 || !utf8.ValidString(got) || strings.Contains(got, "can't be evaluated") {
			t.Fatalf("%q", got)
		}
		if got == "" && !json.Valid(message) {
			t.Fatalf("%s holds of what is no JSON", text)
		}
		if again := assertions(t, text).Unmet(answer(string(message))); again != got {
			t.Fatalf("%q, then %q", got, again)
		}
	})
}

// FuzzCompile: whatever is written is refused on one line, or can be evaluated.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"data.x < 20", "data.status == 'SERVING'", "all(data.x, .y > 1)", "data?.x?.y ?? 3 == 3", "data[data[0]] in [1]", "$env", "let a = 1; a", "(data)()", "#", "data.x[1:2] == [1]",
		"if data.x { true } else { false }", "data | len() > 3", "{'a': data}.a.b", "response_time.x", "available.y", "data.x ?? data.y.z", "-data.x == +1", "b'a' == data",
		"((data.x ?: true) ?: data.y) ?: 0 < (0 < data.z < 5 ? 1 : 2) < 5",
	} {
		f.Add(text, `{"x":1,"y":[true]}`)
	}
	f.Fuzz(func(t *testing.T, text, message string) {
		a, err := Compile(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || !strings.Contains(err.Error(), "want ") {
				t.Fatalf("%q", err)
			}
			return
		}
		got := All([]*Assertion{a}).Unmet(answer(message))
		if got != "" && !strings.HasPrefix(got, text+" does not hold") || strings.Contains(got, "can't be evaluated") {
			t.Fatalf("%q", got)
		}
	})
}
