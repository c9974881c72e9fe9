package daemon

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/transport"
)

// Selection narrows a configuration to one agent, or to the checks of one name; empty means all.
type Selection struct{ Agent, Check string }

// Outcome is what one check came to when it was run once.
type Outcome struct {
	Status check.Status
	// Took is how long the call took, with connecting if it was the first of its agent.
	Took time.Duration
	// Nothing tells that a check for results has nothing to report.
	Nothing bool
}

// Once runs the selected checks once, right now, without core, and returns the outcomes in the
// order of the configuration. An error means that nothing matches the selection.
func Once(ctx context.Context, cfg *config.Config, sel Selection, dial transport.Dialer) ([]Outcome, error) {
	outcomes := selected(cfg, sel)
	if len(outcomes) == 0 {
		return nil, nothingSelected(cfg, sel)
	}
	limit := make(chan struct{}, cfg.Poll.MaxInFlight)
	var agents sync.WaitGroup
	for rest := outcomes; len(rest) > 0; {
		n := ofFirstAgent(rest)
		its := rest[:n:n]
		rest = rest[n:]
		agents.Go(func() {
			limit <- struct{}{}
			onceAgent(ctx, checkerConfig(cfg, dial, nil), its)
			<-limit
		})
	}
	agents.Wait()
	return outcomes, nil
}

// selected returns an outcome to be filled in for each selected check, those of an agent together.
func selected(cfg *config.Config, sel Selection) []Outcome {
	var outcomes []Outcome
	for i := range cfg.Agents {
		agent := cfg.Agents[i]
		if sel.Agent != "" && agent.Name != sel.Agent {
			continue
		}
		for j := range agent.Checks {
			if c := &agent.Checks[j]; sel.Check == "" || c.Name == sel.Check {
				outcomes = append(outcomes, Outcome{Status: check.Status{Agent: agent, Check: c}})
			}
		}
	}
	return outcomes
}

// ofFirstAgent returns how many of the outcomes are of the same agent as the first.
func ofFirstAgent(outcomes []Outcome) int {
	n := slices.IndexFunc(outcomes, func(o Outcome) bool { return o.Status.Agent != outcomes[0].Status.Agent })
	if n < 0 {
		return len(outcomes)
	}
	return n
}

// onceAgent fills in the outcomes of one agent, over one connection.
func onceAgent(ctx context.Context, cfg transport.CheckerConfig, outcomes []Outcome) {
	client, err := transport.NewChecker(outcomes[0].Status.Agent, cfg)
	if client != nil {
		defer func() { _ = client.Close() }() // every call has ended
	}
	var calls sync.WaitGroup
	for i := range outcomes {
		calls.Go(func() { outcomes[i] = onceCheck(ctx, client, err, outcomes[i].Status) })
	}
	calls.Wait()
}

// onceCheck runs the check of a status, unless there is no client because of err.
func onceCheck(ctx context.Context, client *transport.Checker, err error, st check.Status) Outcome {
	run := check.Run{Agent: st.Agent, Check: st.Check}
	ctx, cancel := context.WithTimeout(ctx, run.Check.Timeout)
	defer cancel()
	began := time.Now()
	var answer check.Answer
	switch {
	case err != nil:
	case run.Check.HasResults():
		answer, err = client.Results(ctx, run.Check, "")
	default:
		answer, err = client.Ask(ctx, run.Check)
	}
	took := time.Since(began)
	if err == nil {
		status := run.Answered(answer, took)
		status.Fail(run.Unmet(answer, took))
		return Outcome{Status: status, Took: took, Nothing: answer.Nothing}
	}
	return Outcome{Status: run.FailedBy(err, took), Took: took}
}

func nothingSelected(cfg *config.Config, sel Selection) error {
	var names []string
	for i := range cfg.Agents {
		for _, c := range cfg.Agents[i].Checks {
			names = append(names, cfg.Agents[i].Name+"/"+c.Name)
		}
	}
	const shown = 20
	if len(names) > shown {
		names = append(names[:shown], "…")
	}
	return fmt.Errorf("no check matches agent %q, check %q; there are: %s", sel.Agent, sel.Check, strings.Join(names, ", "))
}

// PrintOutcomes writes a table; for a single outcome also the raw answer, what core would get,
// and the timings.
func PrintOutcomes(w io.Writer, cfg *config.Config, outcomes []Outcome) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "AGENT\tCHECK\tTYPE\tAVAILABLE\tTIME\tANSWER") // Flush returns the error
	for _, o := range outcomes {
		st := o.Status
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%v\t%s\n", observe.Visible(st.Agent.Name), observe.Visible(st.Check.Name), observe.Visible(st.Check.Type),
			availability(st), o.Took.Round(10*time.Microsecond), answer(o, len(outcomes) > 1))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(outcomes) != 1 || outcomes[0].Nothing {
		return nil
	}
	return printDetail(w, cfg, outcomes[0])
}

func printDetail(w io.Writer, cfg *config.Config, o Outcome) error {
	id := identity(cfg)
	wireStatus, err := id.Status(o.Status)
	if err != nil {
		return err
	}
	raw := "(none)"
	if len(o.Status.Message) > 0 {
		raw = observe.VisibleLines(string(o.Status.Message), underLabel)
	}
	run := o.Status
	_, err = fmt.Fprintf(w, "\nasked     %s at %s by %s: type %q, details %q, port %d, timeout %v\n"+
		"took      %v; response time %v\n"+
		"answer    %s\n"+
		"envelope  %s\n"+
		"to core   %s\n",
		observe.Visible(run.Agent.Name), run.Agent.Address, run.Check.Method, run.Check.Type, config.Mask(run.Check.Details), run.Check.Port, run.Check.Timeout,
		o.Took, run.ResponseTime, raw, observe.VisibleLines(string(wireStatus.GetMessage()), underLabel), fields(wireStatus.ProtoReflect()))
	return err
}

// underLabel indents what stands below a label and its text.
const underLabel = "          "

// fields lists what core gets beside the message, those that are empty too.
func fields(m protoreflect.Message) string {
	var list []string
	for i, all := 0, m.Descriptor().Fields(); i < all.Len(); i++ {
		if f := all.Get(i); f.Kind() != protoreflect.BytesKind {
			list = append(list, fmt.Sprintf("%s=%q", f.Name(), m.Get(f).String()))
		}
	}
	return strings.Join(list, " ")
}

func availability(st check.Status) string {
	switch {
	case st.Reason != "":
		return string(st.Reason)
	case st.Available:
		return "yes"
	}
	return "no"
}

// answer is what there is to say of a status, on one line. In a table with others an answer is cut, the
// more so if all is well; why there is no verdict never is.
func answer(o Outcome, brief bool) string {
	if o.Nothing {
		return "(nothing new, and so nothing to report)"
	}
	st, text := o.Status, o.Status.Detail
	switch {
	case st.Reason == "":
		text = string(st.Message)
	case st.Reason == check.Unimplemented && st.Check.HasResults():
		text += " If it is, it has no results: take results_interval out"
	}
	text = strings.Join(strings.Fields(text), " ")
	width := 400
	if st.Available {
		width = 100
	}
	if r := []rune(text); brief && st.Reason == "" && len(r) > width {
		return observe.Visible(string(r[:width])) + "…"
	}
	return observe.Visible(text)
}
