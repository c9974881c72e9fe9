package sim

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

func TestParseScript(t *testing.T) {
	t.Parallel()
	const text = `
# a morning
1m0s a1 flapping 10s 5s error DataLoss
  0s core not-received after-taking

1m0s a2 goaway 100ms
`
	s, err := ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Script{
		{0, "core", Fault{Kind: KindNotReceived, AfterTaking: true}},
		{time.Minute, "a1", Fault{Kind: KindError, Code: codes.DataLoss, Good: 10 * time.Second, Bad: 5 * time.Second}},
		{time.Minute, "a2", Fault{Kind: KindGoAway, For: 100 * time.Millisecond}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	again, err := ParseScript(s.String())
	if err != nil || !cmp.Equal(s, again) {
		t.Errorf("%v: written as\n%s", err, s)
	}
}

func TestParseScriptFails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"soon a ok":              `line 1: time: invalid duration "soon"`,
		"\n1s a":                 "line 2: fault \"\": a word is missing",
		"1s a odd":               `there is no kind "odd"`,
		"1s a slow":              "a word is missing",
		"1s a slow much":         `invalid duration "much"`,
		"1s a error Fatal":       `there is no code "Fatal"`,
		"1s a huge x":            `parsing "x"`,
		"1s a down 3s":           "too many words",
		"1s a down after-taking": "too many words",
		"1s a slow -3s":          "it takes no time",
		"1s a goaway 0s":         "it takes no time",
		"1s a error OK":          "OK is no error",
		"1s a huge -5":           "that is no size",
		"1s a flapping 1s 0s ok": "it takes no time",
	} {
		if _, err := ParseScript(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	s, err := ParseScript("0s a down\n1s b hang\n2s a ok\n3s a silent\n9s a ok")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string][]Span{
		"a": {{0, 2e9, Fault{Kind: KindDown}}, {2e9, 3e9, Fault{Kind: KindFine}}, {3e9, 5e9, Fault{Kind: KindSilent}}},
		"b": {{0, 1e9, Fault{}}, {1e9, 5e9, Fault{Kind: KindHang}}},
		"c": {{0, 5e9, Fault{}}},
	} {
		if diff := cmp.Diff(want, s.Spans(host, 5*time.Second)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", host, diff)
		}
	}
}

func TestRandomScript(t *testing.T) {
	t.Parallel()
	faults := []Fault{{Kind: KindDown}, {Kind: KindHang}}
	random := func(seed uint64) Script {
		return RandomScript(rand.NewPCG(seed, 0), []string{"a", "b"}, faults, time.Second, time.Minute, time.Hour)
	}
	first, again, second := random(1), random(1), random(2)
	if first.String() != again.String() || first.String() == second.String() {
		t.Error("a seed does not make one script, or two make the same")
	}
	for _, host := range []string{"a", "b"} {
		spans := random(1).Spans(host, time.Hour)
		if len(spans) < 5 || spans[len(spans)-1].Fault.Kind != KindFine {
			t.Errorf("%s: %v", host, spans)
		}
		for i, span := range spans {
			bad := span.Fault.Kind != KindFine && span.Fault.Kind != ""
			if length := span.To - span.From; bad != (i%2 == 1) || bad && (length < time.Second || length > time.Minute) {
				t.Errorf("%s: %v after %v", host, span, spans[max(0, i-1)])
			}
		}
	}
}

func TestPlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var network Net
		checker := NewChecker(Behaviour{})
		host, err := checker.NewHost(Behaviour{}, nil, func() (net.Listener, error) { return network.Listen("checker") })
		if err != nil {
			t.Fatal(err)
		}
		defer host.Stop()
		hosts := map[string]*Host{"a": host}
		play := func(ctx context.Context, text string) error {
			s, err := ParseScript(text)
			if err != nil {
				t.Fatal(err)
			}
			return s.Play(ctx, hosts)
		}
		began := time.Now()
		if err := play(t.Context(), "1s a hang\n3s a down"); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("played for %v: %v", time.Since(began), err)
		}
		if _, err := network.Dial(t.Context(), "checker"); err == nil {
			t.Error("it is not down")
		}
		if l, err := network.Listen("checker"); err != nil {
			t.Error(err)
		} else if err := play(t.Context(), "1s a ok"); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("its address is taken: %v", err)
		} else {
			_ = l.Close()
		}
		if err := play(t.Context(), "1s z down"); err == nil || !strings.Contains(err.Error(), `no host "z"`) {
			t.Errorf("an unknown host: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := play(ctx, "1h a ok"); err == nil {
			t.Error("it outlived its context")
		}
	})
}
