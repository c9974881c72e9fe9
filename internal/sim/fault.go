package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Kind names what can be wrong with a Host, as scripts write it.
type Kind string

// The kinds. Those of the process and of its connections strike any host; those of calls strike
// checkers or cores as noted.
const (
	// KindFine is no fault.
	KindFine Kind = "ok"

	// KindDown: nobody listens, connections are cut. A core comes back without knowing any poller.
	KindDown Kind = "down"
	// KindFrozen: the process stands still, and goes on where it was.
	KindFrozen Kind = "frozen"
	// KindSilent: connections are accepted and nothing is said on any; they are cut when it ends.
	KindSilent Kind = "silent"
	// KindGarbage: whatever comes is answered with bytes that mean nothing.
	KindGarbage Kind = "garbage"
	// KindHTTP1: whatever comes is answered by a web server of old.
	KindHTTP1 Kind = "http1"
	// KindReset: connections are cut at once, new ones as soon as something comes over them.
	KindReset Kind = "reset"
	// KindGoAway: connections are asked to end, once or every For.
	KindGoAway Kind = "goaway"

	// KindHang: calls are never answered; a checker says that it is well.
	KindHang Kind = "hang"
	// KindHangAll: a checker's health checks, too.
	KindHangAll Kind = "hang-all"
	// KindSlow: answers take For.
	KindSlow Kind = "slow"
	// KindError: calls are answered with Code.
	KindError Kind = "error"
	// KindHuge: a checker's answers have Size bytes.
	KindHuge Kind = "huge"
	// KindBadJSON: a checker's answers end in the midst of their JSON.
	KindBadJSON Kind = "bad-json"
	// KindEarly: a checker's streams end before their last chunk, as if all were well.
	KindEarly Kind = "early"
	// KindNotReceived: a core answers received=false.
	KindNotReceived Kind = "not-received"
)

// Fault is what is wrong with a Host. The zero Fault is none. It is a value that can be compared.
type Fault struct {
	Kind Kind
	// For is how long answers take with Slow, and the time between two with GoAway; 0 there is once.
	For time.Duration
	// Code is answered with Error.
	Code codes.Code
	// Size is that of answers with Huge, in bytes.
	Size int
	// AfterTaking lets a core's Hang, Error and NotReceived strike when it has taken the report.
	AfterTaking bool
	// Good and Bad, if they are not 0, make the fault come and go: first it is absent for Good, then
	// there for Bad, and so on.
	Good, Bad time.Duration
}

const (
	flapping    = "flapping"
	afterTaking = "after-taking"
)

// String returns the fault as ParseFault takes it.
func (f Fault) String() string {
	var words []string
	if f.Good > 0 {
		words = append(words, flapping, f.Good.String(), f.Bad.String())
	}
	if f.Kind == "" {
		f.Kind = KindFine
	}
	words = append(words, string(f.Kind))
	switch {
	case f.Kind == KindError:
		words = append(words, f.Code.String())
	case f.Kind == KindHuge:
		words = append(words, strconv.Itoa(f.Size))
	case f.For > 0:
		words = append(words, f.For.String())
	}
	if f.AfterTaking {
		words = append(words, afterTaking)
	}
	return strings.Join(words, " ")
}

// ParseFault returns the fault that a text names: its Kind and what belongs to it, as in "hang",
// "slow 3s", "error Internal", "huge 5000000", "goaway 100ms", "error Unknown after-taking",
// "flapping 10s 5s down".
func ParseFault(text string) (Fault, error) {
	var f Fault
	p := words{text: text, rest: strings.Fields(text)}
	if p.is(flapping) {
		f.Good, f.Bad = p.positive(), p.positive()
	}
	f.Kind = Kind(p.next())
	switch f.Kind {
	case KindFine, KindDown, KindFrozen, KindSilent, KindGarbage, KindHTTP1, KindReset, KindHang, KindHangAll, KindBadJSON, KindEarly, KindNotReceived:
	case KindGoAway:
		if len(p.rest) > 0 {
			f.For = p.positive()
		}
	case KindSlow:
		f.For = p.positive()
	case KindError:
		if f.Code = p.code(); f.Code == codes.OK {
			p.fail("OK is no error")
		}
	case KindHuge:
		f.Size = p.number()
	default:
		p.fail(fmt.Sprintf("there is no kind %q", f.Kind))
	}
	switch f.Kind {
	case KindHang, KindError, KindNotReceived:
		f.AfterTaking = p.is(afterTaking)
	default:
	}
	if len(p.rest) > 0 {
		p.fail("too many words")
	}
	return f, p.err
}

// words are those of a line, taken one after the other; the first error stays.
type words struct {
	text string
	rest []string
	err  error
}

func (w *words) fail(why string) {
	if w.err == nil {
		w.err = fmt.Errorf("fault %q: %s", w.text, why)
	}
}

func (w *words) next() string {
	if len(w.rest) == 0 {
		w.fail("a word is missing")
		return ""
	}
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word
}

// is takes the next word if it is this one.
func (w *words) is(word string) bool {
	found := len(w.rest) > 0 && w.rest[0] == word
	if found {
		w.rest = w.rest[1:]
	}
	return found
}

func (w *words) positive() time.Duration {
	d, err := time.ParseDuration(w.next())
	if err != nil {
		w.fail(err.Error())
	} else if d <= 0 {
		w.fail("it takes no time")
	}
	return d
}

func (w *words) number() int {
	n, err := strconv.Atoi(w.next())
	if err != nil {
		w.fail(err.Error())
	} else if n <= 0 {
		w.fail("that is no size")
	}
	return n
}

func (w *words) code() codes.Code {
	name := w.next()
	all := make([]codes.Code, codes.Unauthenticated+1)
	for i := range all {
		all[i] = codes.Code(i)
	}
	i := slices.IndexFunc(all, func(c codes.Code) bool { return c.String() == name })
	if i < 0 {
		w.fail(fmt.Sprintf("there is no code %q", name))
		return codes.Unknown
	}
	return all[i]
}
