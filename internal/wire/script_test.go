package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestScripts holds the scripts below testdata: what goes in, and what core gets. Run it with
// -rewrite to write down what comes out now.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{id: identity(), known: make(map[string]netip.Addr)}
		s.id.Resolve = func(name string) netip.Addr { return s.known[name] }
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "resolve":
				for _, arg := range d.CmdArgs {
					s.known[arg.Key] = netip.MustParseAddr(arg.Vals[0])
				}
				return ""
			case "status":
				return s.status(t, d)
			case "merge":
				return merge(t, d)
			case "reports":
				return s.reports(t, d)
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

type script struct {
	id    *Identity
	known map[string]netip.Addr
}

// argument returns the value of an argument, empty if it is not there.
func argument(d *datadriven.TestData, key string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == key {
			return strings.Join(arg.Vals, ",")
		}
	}
	return ""
}

func checkOf(d *datadriven.TestData) *check.Check {
	c := &check.Check{Name: argument(d, "name"), Type: argument(d, "type"), Details: argument(d, "details")}
	if c.Name == "" {
		c.Name = "x"
	}
	if d.HasArg("results") {
		c.Method = check.GetResults
	}
	return c
}

// status prints what core gets for a checker's message: with type=x details=… address=…, results,
// bare, confirming=…, silenced=…, minority, reason=… (the input is the detail then), unmet=… (the detail, of reason assertion) or
// all (the other fields, too).
func (s *script) status(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	id := *s.id
	id.Bare = d.HasArg("bare")
	st := check.Status{
		Agent: &check.Agent{Name: "a", Address: argument(d, "address")}, Check: checkOf(d),
		Available: true, Message: []byte(d.Input), ResponseTime: 95382,
	}
	if reason := argument(d, "reason"); reason != "" {
		st.Available, st.Message, st.Reason, st.Detail = false, nil, check.Reason(reason), d.Input
	}
	st.Fail(strings.ReplaceAll(argument(d, "unmet"), "_", " "))
	if confirming := argument(d, "confirming"); confirming != "" {
		n, err := strconv.ParseUint(confirming, 10, 8)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		st.Available, st.Confirming = false, uint8(n)
	}
	st.Silenced = strings.ReplaceAll(argument(d, "silenced"), "_", " ")
	st.Minority = d.HasArg("minority")
	out := statusOf(t, &id, st)
	text := string(out.GetMessage()) + "\n"
	if !d.HasArg("all") {
		text, _ = strings.CutPrefix(text, fmt.Sprintf(
			`{"poller_id":"p","agent_id":"a","partition":"default","service_type":"%s","service_name":"%s",`, out.GetServiceType(), out.GetServiceName()))
		return text
	}
	return text + fmt.Sprintf("%s/%s:%s available=%v response_time=%d source=%s poller=%s partition=%s kv=%s\n",
		out.GetAgentId(), out.GetServiceName(), out.GetServiceType(), out.GetAvailable(), out.GetResponseTime(), out.GetSource(),
		out.GetPollerId(), out.GetPartition(), out.GetKvStoreId())
}

// merge prints what chunks come to. Each line is one: its number, "of" the number there are, "final"
// if it is, and its data after a bar; sequence=… is the last one's. Without numbers, it has none.
func merge(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	limit := 1 << 20
	if s := argument(d, "limit"); s != "" {
		limit, _ = strconv.Atoi(s)
	}
	c := checkOf(d)
	c.Method = check.StreamResults
	m := NewMerger(c, limit)
	for line := range strings.Lines(d.Input) {
		last, err := m.Add(chunkOf(t, strings.TrimSpace(line)))
		if err != nil {
			return err.Error() + "\n"
		}
		if last {
			break
		}
	}
	answer, err := m.Answer()
	switch {
	case err != nil:
		return err.Error() + "\n"
	case answer.Nothing:
		return fmt.Sprintf("nothing to report, sequence %q\n", answer.Sequence)
	}
	return fmt.Sprintf("%s\nsequence %q\n", answer.Message, answer.Sequence)
}

func chunkOf(t *testing.T, line string) *monitoring.ResultsChunk {
	t.Helper()
	head, data, ok := strings.Cut(line, "|")
	if !ok {
		t.Fatalf("a chunk without a bar: %s", line)
	}
	chunk := &monitoring.ResultsChunk{Data: []byte(data)}
	words := strings.Fields(head)
	for i, word := range words {
		n, err := strconv.ParseInt(word, 10, 32)
		switch sequence, isSequence := strings.CutPrefix(word, "sequence="); {
		case err == nil && i > 0 && words[i-1] == "of":
			chunk.TotalChunks = int32(n)
		case err == nil:
			chunk.ChunkIndex = int32(n)
		case isSequence:
			chunk.CurrentSequence = sequence
		case word == "final":
			chunk.IsFinal = true
		case word != "of":
			t.Fatalf("unknown word %q of a chunk", word)
		}
	}
	return chunk
}

// reports prints the calls that a cycle comes to, with max-message=… and max-report=… bytes. Each
// line is a status: AGENT/NAME:TYPE and the bytes of its answer, and =SEQUENCE if it has one.
func (s *script) reports(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	id := *s.id
	id.MaxMessage, _ = strconv.Atoi(argument(d, "max-message"))
	id.MaxReport, _ = strconv.Atoi(argument(d, "max-report"))
	var statuses []check.Status
	for line := range strings.Lines(d.Input) {
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("/: =\n", r) })
		size, err := strconv.Atoi(words[3])
		if err != nil {
			t.Fatal(err)
		}
		st := answered(words[0], words[1], words[2], string(bytes.Repeat([]byte("1"), size)))
		if len(words) > 4 {
			st.Sequence = words[4]
		}
		statuses = append(statuses, st)
	}
	reports, err := id.Reports(time.Unix(1000, 0), statuses)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range reports {
		request := unmarshal(t, r.Body)
		fmt.Fprintf(&b, "%s: ", call(request, len(r.Body), id.MaxMessage))
		for _, st := range request.GetServices() {
			fmt.Fprintf(&b, " %s/%s:%s", st.GetAgentId(), st.GetServiceName(), st.GetServiceType())
			if !st.GetAvailable() {
				b.WriteString(" (too large)")
			}
		}
		for _, sequence := range r.Sequences {
			fmt.Fprintf(&b, " (%s/%s stands at %s)", sequence.Agent, sequence.Check, sequence.Value)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func call(r *monitoring.PollerStatusRequest, size, limit int) string {
	if size <= limit {
		return "unary"
	}
	var sizes []string
	for _, chunk := range Chunks(r, limit) {
		n := 0
		for _, st := range chunk.GetServices() {
			n += len(st.GetMessage())
		}
		sizes = append(sizes, fmt.Sprintf("%d of %d", len(chunk.GetServices()), n))
	}
	return fmt.Sprintf("stream of %d chunks (%s bytes)", len(sizes), strings.Join(sizes, ", "))
}
