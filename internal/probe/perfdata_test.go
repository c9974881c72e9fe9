package probe

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParsePerfdata(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ data, rest string }{
		"":                           {`null`, ""},
		" \n ":                       {`null`, ""},
		"time=0.05s;1;2;0;10":        {`[{"label":"time","value":0.05,"unit":"s","warn":"1","crit":"2","min":0,"max":10}]`, ""},
		"a=1 b=2%\nc=3KB;;":          {`[{"label":"a","value":1},{"label":"b","value":2,"unit":"%"},{"label":"c","value":3,"unit":"KB"}]`, ""},
		"'it''s = free'=4;@10:20;~:": {`[{"label":"it's = free","value":4,"warn":"@10:20","crit":"~:"}]`, ""},
		"''''=1":                     {`[{"label":"'","value":1}]`, ""},
		"x=U;1;2":                    {`[{"label":"x","value":null,"warn":"1","crit":"2"}]`, ""},
		"/var/log=007.50MB;;;;00":    {`[{"label":"/var/log","value":7.50,"unit":"MB","max":0}]`, ""},
		"a=-.5 b=+5. c=1e-3s d=2E":   {`[{"label":"a","value":-0.5},{"label":"b","value":5},{"label":"c","value":1e-3,"unit":"s"},{"label":"d","value":2,"unit":"E"}]`, ""},
		"n=18446744073709551617c":    {`[{"label":"n","value":18446744073709551617,"unit":"c"}]`, ""},
		"u=5%;;;0%;100%":             {`[{"label":"u","value":5,"unit":"%","min":0,"max":100}]`, ""},
		"t=5°C":                      {`[{"label":"t","value":5,"unit":"°C"}]`, ""},
		// What can't be read is left over.
		"free space=3 b=4":    {`[{"label":"space","value":3},{"label":"b","value":4}]`, "free"},
		"a= b=1":              {`[{"label":"b","value":1}]`, "a="},
		"=1 ''=2 a":           {`null`, "=1 ''=2 a"},
		"'open=1 b=2":         {`[{"label":"b","value":2}]`, "'open=1"},
		"'a b'c=1":            {`null`, "'a b'c=1"},
		"a'b=1":               {`null`, "a'b=1"},
		"a=0,5 b=1;2;3;4;5;6": {`null`, "a=0,5 b=1;2;3;4;5;6"},
		"'a b'=1x2 c=1;;;z":   {`null`, "'a b'=1x2 c=1;;;z"},
		"a=1e5e5 b=--1 c=.":   {`null`, "a=1e5e5 b=--1 c=."},
		"a=1;;;0%;":           {`null`, "a=1;;;0%;"},
	} {
		data, rest := parsePerfdata(text)
		got, err := json.Marshal(data)
		if err != nil || string(got) != want.data || rest != want.rest {
			t.Errorf("%q: %s, left %q, %v\nwant %s, left %q", text, got, rest, err, want.data, want.rest)
		}
	}
}

// write writes perfdata as plugins do.
func (d *perfdatum) write() string {
	number := func(n *json.Number) string {
		if n == nil {
			return ""
		}
		return n.String()
	}
	value := "U"
	if d.Value != nil {
		value = number(d.Value) + d.Unit
	}
	return "'" + strings.ReplaceAll(d.Label, "'", "''") + "'=" + strings.Join([]string{value, d.Warn, d.Crit, number(d.Min), number(d.Max)}, ";")
}

// FuzzPerfdata: whatever a plugin says, nothing is lost, what was read is JSON, and reads the same when it is written again.
func FuzzPerfdata(f *testing.F) {
	for _, seed := range []string{"time=0.05s;1;2;0;10", "'it''s'=4;@10:20;~:", "x=U", "a=1e-3 b=+5.", "'a b'=1x", "'", "a=;;;", "=", "a=1 junk 'b=2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "\uFFFD") // as readPlugin has it
		data, rest := parsePerfdata(text)
		if _, err := json.Marshal(data); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if len(data) == 0 && strings.Join(strings.Fields(text), " ") != strings.Join(strings.Fields(rest), " ") {
			t.Errorf("of %q only %q is left", text, rest)
		}
		for i := range data {
			written := data[i].write()
			again, rest := parsePerfdata(written)
			if len(again) != 1 || rest != "" || again[0].write() != written {
				t.Errorf("%q was read as %+v and written as %q, which is read as %+v and leaves %q", text, data[i], written, again, rest)
			}
		}
	})
}
