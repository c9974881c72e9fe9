package check

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what of Grafana's model this test looks at.
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Panels        []panel
	Templating    struct{ List []variable }
	Annotations   struct{ List []annotation }
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  source
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct {
		RefID        string
		Expr         string
		LegendFormat string
		Datasource   source
	}
}

type source struct{ Type, UID string }

type variable struct{ Name, Type, Definition string }

type annotation struct{ Name, Expr, TextFormat string }

var (
	// grafanas are the variables that Grafana fills in, where Prometheus has a duration.
	grafanas = strings.NewReplacer("$__rate_interval", "5m", "$__range", "3h")
	legend   = regexp.MustCompile(`{{\s*([a-z_]+)\s*}}`)
	ofLabel  = regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`)
)

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("../grafana/poller.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardShowsWhatThereIs: each expression is one that Prometheus takes, of metrics and labels that there are.
func TestDashboardShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	d, metrics, shown := readDashboard(t), readExposed(t), 0
	check := func(where, expression, text string) {
		t.Helper()
		shown++
		problems, with := metrics.problems(grafanas.Replace(expression))
		for _, label := range legend.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(with, label[1]) {
				problems = append(problems, fmt.Sprintf("%s is not among the labels %q", label[0], with))
			}
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", where, expression, p)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			check(p.Title, target.Expr, target.LegendFormat)
		}
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			check(a.Name, a.Expr, a.TextFormat)
		}
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		query := ofLabel.FindStringSubmatch(v.Definition)
		if query == nil {
			t.Errorf("variable %s: %q is not label_values(…, …)", v.Name, v.Definition)
			continue
		}
		check("variable "+v.Name, query[1], "{{"+query[2]+"}}")
	}
	if shown < 40 {
		t.Errorf("%d expressions were found", shown)
	}
}

// TestDashboardIsWhole: Grafana can place all panels, and whoever looks at one knows what it shows.
func TestDashboardIsWhole(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if d.UID != "poller" || d.Title != "Poller" || d.SchemaVersion < 41 {
		t.Errorf("uid %q, title %q, schema %d", d.UID, d.Title, d.SchemaVersion)
	}
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: there is another panel %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Errorf("%s lies on %s", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: wants a description, a unit, an expression and the variable datasource", p.Title)
		}
		for i, target := range p.Targets {
			if want := string(rune('A' + i)); target.RefID != want || target.Datasource != p.Datasource {
				t.Errorf("%s: target %q with datasource %+v, want %q and the panel's", p.Title, target.RefID, target.Datasource, want)
			}
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: %s is of all instances", p.Title, target.Expr)
			}
		}
	}
}
