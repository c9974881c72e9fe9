// Package check holds the alert rules and the dashboard beside it against what the poller exposes. It is a module of its own,
// so that Prometheus' parser and engine are no part of the product's dependencies.
package check

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// exposed are the metrics that there are, by the names that expressions use, with their labels. A test of internal/observe holds
// the document where they come from against a real scrape: names, types and labels.
type exposed map[string][]string

var (
	documented = regexp.MustCompile("^\\| `([a-z_]+)` \\| ([a-z]+) \\| (.*) \\| .* \\|$")
	quoted     = regexp.MustCompile("`([a-z_]+)`")
	// ofTarget are the labels that Prometheus gives to all that it scrapes.
	ofTarget = []string{"job", "instance"}
)

func readExposed(t *testing.T) exposed {
	t.Helper()
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics := exposed{"up": ofTarget} // Prometheus' own
	for line := range strings.Lines(string(doc)) {
		row := documented.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil {
			continue
		}
		name, with := row[1], slices.Clone(ofTarget)
		for _, label := range quoted.FindAllStringSubmatch(row[3], -1) {
			with = append(with, label[1])
		}
		metrics[name] = with
		if row[2] == "histogram" {
			metrics[name+"_bucket"] = append(slices.Clone(with), "le")
			metrics[name+"_sum"], metrics[name+"_count"] = with, with
		}
	}
	if len(metrics) < 40 {
		t.Fatalf("docs/metrics.md has %d metrics: are its tables as they were?", len(metrics))
	}
	return metrics
}

// problems returns what is wrong with an expression, and the labels that its result may have.
func (m exposed) problems(expression string) (problems []string, result []string) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return []string{err.Error()}, nil
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			with, known := m[n.Name]
			if !known {
				problems = append(problems, fmt.Sprintf("nothing exposes %q", n.Name))
				return nil
			}
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != model.MetricNameLabel && !slices.Contains(with, matcher.Name) {
					problems = append(problems, fmt.Sprintf("%s has no label %q", n.Name, matcher.Name))
				}
			}
		case *parser.AggregateExpr:
			problems = append(problems, m.missing(n.Grouping, n.Expr)...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				problems = append(problems, m.missing(n.VectorMatching.MatchingLabels, n.LHS)...)
				problems = append(problems, m.missing(n.VectorMatching.MatchingLabels, n.RHS)...)
			}
		}
		return nil
	})
	return problems, m.labelsOf(expr)
}

// missing says which labels the result of an expression has not.
func (m exposed) missing(names []string, expr parser.Expr) (problems []string) {
	with := m.labelsOf(expr)
	for _, name := range names {
		if !slices.Contains(with, name) {
			problems = append(problems, fmt.Sprintf("there is no label %q in %s", name, expr))
		}
	}
	return problems
}

// labelsOf returns the labels that the result of an expression may have: those by which it is grouped, those of the left of a
// binary operator, else those of the metrics within.
func (m exposed) labelsOf(expr parser.Expr) (names []string) {
	switch e := expr.(type) {
	case *parser.AggregateExpr:
		return e.Grouping
	case *parser.BinaryExpr:
		if left := m.labelsOf(e.LHS); len(left) > 0 {
			return left
		}
		return m.labelsOf(e.RHS)
	case *parser.VectorSelector:
		return m[e.Name]
	}
	for child := range parser.ChildrenIter(expr) {
		if within, ok := child.(parser.Expr); ok {
			names = append(names, m.labelsOf(within)...)
		}
	}
	return names
}

// TestProblemsAreFound: what this package looks for it finds.
func TestProblemsAreFound(t *testing.T) {
	t.Parallel()
	metrics := readExposed(t)
	for expression, want := range map[string]string{
		`poller_ready == `:              "parse error",
		`poller_redy == 0`:              `nothing exposes "poller_redy"`,
		`{job="poller"}`:                `nothing exposes ""`,
		`poller_ready{conditon="core"}`: `no label "conditon"`,
		`sum by (type) (rate(poller_deliveries_total[5m]))`:         `no label "type"`,
		`poller_run_lateness_seconds{le="1"}`:                       `no label "le"`,
		`sum by (job) (poller_ready) / on (instance) poller_agents`: `no label "instance"`,
		`poller_reports_taken_total_bucket`:                         `nothing exposes`,
	} {
		if got, _ := metrics.problems(expression); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("of %s the problems are %q, want one with %q", expression, got, want)
		}
	}
	if got, with := metrics.problems(`sum by (job, type) (rate(poller_run_duration_seconds_bucket{le="1"}[5m])) > 1`); len(got) > 0 || !slices.Equal(with, []string{"job", "type"}) {
		t.Errorf("problems %q, labels %q", got, with)
	}
}
