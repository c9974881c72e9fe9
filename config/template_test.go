package config

import (
	"strings"
	"testing"
	"unicode/utf8"
)

var testValues = map[string]any{
	"agent": "web-1", "address": "web-1.example:50051", "labels": map[string]string{"site": "north", "path": "a b&c", "long": strings.Repeat("x", maxLabel)},
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://{{ .agent }}/":                                            "https://web-1/",
		"{{.address}} {{ .labels.site -}} ! ":                              "web-1.example:50051 north! ",
		"{{ if eq .labels.site \"north\" }}n{{ else }}s{{ end }}":          "n",
		"{{ with index .labels \"port\" }}:{{ . }}{{ end }}.":              ".",
		"{{ with .labels }}{{ .site }}{{ $.agent }}{{ end }}":              "northweb-1",
		"{{ with index .labels \"none\" }}{{ else }}{{ .agent }}{{ end }}": "web-1",
		"{{ $site := .labels.site }}{{ slice $site 0 1 }}":                 "n",
		"/{{ .labels.path | urlquery }}":                                   "/a+b%26c",
		"{{ len .agent }}{{/* nothing */}}":                                "5",
		"{{ or (index .labels \"none\") .agent }}":                         "web-1",
		`{{ "{{" }} }}`: "{{ }}",
	} {
		tmpl, bad := parseTemplate(text)
		if bad != "" {
			t.Errorf("%s: %s", text, bad)
			continue
		}
		if got, bad := tmpl.execute(testValues); got != want || bad != "" {
			t.Errorf("%s: got %q, %q; want %q", text, got, bad, want)
		}
	}
}

// TestTemplateBounds: templates that would take long or come to much. What else is wrong is in testdata/bad.
func TestTemplateBounds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"long":            {text: "{{ .agent }}" + strings.Repeat("x", maxTemplate), want: "which has 16396 bytes, want a template of at most 16KiB"},
		"output":          {text: strings.Repeat("{{ .labels.long }}", 17), want: "it comes to more than 64KiB"},
		"loop":            {text: "{{ range 1000000000 }}{{ end }}", want: "but {{ range }} is not for here: use values, if, else and with"},
		"hidden loop":     {text: "{{ with .labels }}{{ if true }}{{ else }}{{ range $i, $x := . }}{{ end }}{{ end }}{{ end }}", want: "but {{ range }} is not for here: use values, if, else and with"},
		"recursion":       {text: `{{ define "text" }}{{ template "text" }}{{ template "text" }}{{ end }}`, want: "but {{ template }} is not for here: use values, if, else and with"},
		"other":           {text: `{{ block "x" . }}{{ end }}`, want: "but templates can't be defined here"},
		"only another":    {text: `{{ define "x" }}{{ end }}`, want: "but templates can't be defined here"},
		"joined texts":    {text: "{{ urlquery .agent .agent }}", want: "it fails at <urlquery>: wrong number of args for urlquery: want 1 got 2"},
		"joined in an if": {text: "{{ if (print .agent .agent) }}{{ end }}", want: "but the function print is not for here; use " + strings.Join(templateFunctions, ", ")},
		"deep":            {text: strings.Repeat("{{if 1}}", 1000) + strings.Repeat("{{end}}", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tmpl, got := parseTemplate(test.text)
			if got == "" {
				_, got = tmpl.execute(testValues)
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// FuzzTemplate: whatever compiles comes to an end, within bounds.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		"{{ .agent }}", "{{ if eq .labels.site \"x\" }}{{ else if .address }}{{ . }}{{ end }}", "{{ with $x := index .labels \"a\" }}{{ $x }}{{ end }}",
		"{{ slice .agent 1 3 | urlquery | len }}", "{{ range 10 }}{{ end }}", `{{ define "text" }}{{ end }}`, `{{ block "b" . }}{{ end }}`,
		"{{ .labels.site.x }}", "{{ ($).labels.site }}", "{{ and (not 1) (or 2 nil) }}", "{{ index .labels 1 }}{{ 1e99 }}{{ 'x' }}", "{{ printf \"%*d\" 9 1 }}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tmpl, bad := parseTemplate(text)
		if (tmpl == nil) != (bad != "") {
			t.Fatalf("template %v, complaint %q", tmpl, bad)
		}
		if tmpl == nil {
			return
		}
		got, bad := tmpl.execute(testValues)
		if bad != "" && got != "" || len(got) > maxExpanded {
			t.Errorf("%d bytes, complaint %q", len(got), bad)
		}
		if again, _ := tmpl.execute(testValues); again != got {
			t.Errorf("came to %q, then to %q", got, again)
		}
		if utf8.ValidString(text) && !isTemplate(text) && got != text {
			t.Errorf("no template, but came to %q", got)
		}
	})
}
