package convert

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/config"
)

// FuzzConvert converts anything: it either says what is in the way, at a place within the text, or
// yields a configuration that the poller accepts. It never has to confess a fault of its own.
func FuzzConvert(f *testing.F) {
	for _, file := range fixtures(f) {
		f.Add(read(f, file))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		given := bytes.Clone(text)
		result, err := ServiceRadar("poller.json", text)
		if !bytes.Equal(text, given) {
			t.Error("the text was changed")
		}
		if err != nil {
			checkErrors(t, err)
			return
		}
		if _, _, err := config.Parse("", result.TOML, config.Source{}); err != nil {
			t.Errorf("the poller does not take it: %v\n%s", err, result.TOML)
		}
		for _, n := range result.Notes {
			if n.Text == "" || strings.IndexFunc(n.String(), unicode.IsControl) >= 0 {
				t.Errorf("not fit for a terminal: %q", n)
			}
		}
		if again, err := ServiceRadar("poller.json", text); err != nil || !cmp.Equal(result, again) {
			t.Errorf("the second time it is converted otherwise: %v", err)
		}
	})
}

func checkErrors(t *testing.T, err error) {
	t.Helper()
	list, ok := errors.AsType[config.Errors](err)
	if !ok || len(list) == 0 {
		t.Fatalf("error %#v", err)
	}
	for i, e := range list {
		if e.File != "poller.json" || e.Line < 1 || e.Column < 1 || e.Msg == "" || strings.Contains(e.Msg, "fault of the converter") {
			t.Errorf("error %d is not as it has to be: %#v", i, e)
		}
	}
}
