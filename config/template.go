package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"
	syntax "text/template/parse"
)

// Bounds of templates, in bytes.
const (
	maxTemplate = 16 << 10
	maxExpanded = 64 << 10 // what one may come to
)

// textTemplate is a Go template of which is known that it ends, soon, and with little memory: it has no loops, and no
// functions that could make a text out of several, so only its output grows, and that is bounded.
type textTemplate struct{ compiled *template.Template }

// templateValues are what templates know, templateFunctions all that they may call.
var (
	templateValues    = []string{"agent", "address", "labels"}
	templateFunctions = []string{"and", "eq", "ge", "gt", "index", "le", "len", "lt", "ne", "not", "or", "slice", "urlquery"}
)

// isTemplate tells whether a text is more than itself.
func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// parseTemplate compiles a template, or says what is wrong with it.
func parseTemplate(text string) (*textTemplate, string) {
	if len(text) > maxTemplate {
		return nil, fmt.Sprintf("which has %d bytes, want a template of at most %s", len(text), formatSize(maxTemplate))
	}
	// The built-in urlquery takes several texts and joins them.
	functions := template.FuncMap{"urlquery": url.QueryEscape}
	t, err := template.New("text").Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		return nil, "which is no valid template: " + templateError(err)
	}
	if t.Tree == nil || len(t.Templates()) > 1 {
		return nil, "but templates can't be defined here"
	}
	if bad := walkTemplate(t.Root, true); bad != "" {
		return nil, bad
	}
	return &textTemplate{compiled: t}, ""
}

// execute returns what the template comes to with the values, or says why it comes to nothing.
func (t *textTemplate) execute(values map[string]any) (text, bad string) {
	out := &boundedText{}
	err := t.compiled.Execute(out, values)
	switch {
	case errors.Is(err, errTooLong):
		return "", fmt.Sprintf("it comes to more than %s", formatSize(maxExpanded))
	case err == nil:
		return out.text.String(), ""
	}
	if missing := labelPattern.FindStringSubmatch(err.Error()); missing != nil {
		return "", fmt.Sprintf("its labels have no %s; write it there, or {{ index .labels %[1]s }} here if it may be missing", Mask(missing[1]))
	}
	return "", "it fails at " + templateError(err)
}

// placePattern is what errors of text/template begin with.
var placePattern = regexp.MustCompile(`^template: text:[0-9:]+ (executing "text" at )?`)

// labelPattern is what they end with if a label is missing: all other names were looked at before.
var labelPattern = regexp.MustCompile(`map has no entry for key ("[^"]*")$`)

func templateError(err error) string { return Mask(placePattern.ReplaceAllString(err.Error(), "")) }

var errTooLong = errors.New("too long")

// boundedText is a Writer.
type boundedText struct{ text strings.Builder }

func (b *boundedText) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxExpanded {
		return 0, errTooLong
	}
	return b.text.Write(p)
}

// walkTemplate says what in a template is not allowed. At its top the dot has the templateValues; within a "with" it
// is something else.
func walkTemplate(n syntax.Node, top bool) string {
	switch n := n.(type) {
	case *syntax.ListNode:
		if n == nil { // an else that is not there
			return ""
		}
		for _, kid := range n.Nodes {
			if bad := walkTemplate(kid, top); bad != "" {
				return bad
			}
		}
		return ""
	case *syntax.TextNode:
		return ""
	case *syntax.ActionNode:
		return walkPipe(n.Pipe, top)
	case *syntax.IfNode:
		return cmp.Or(walkPipe(n.Pipe, top), walkTemplate(n.List, top), walkTemplate(n.ElseList, top))
	case *syntax.WithNode:
		return cmp.Or(walkPipe(n.Pipe, top), walkTemplate(n.List, false), walkTemplate(n.ElseList, top))
	}
	word, _, _ := strings.Cut(strings.Trim(n.String(), "{} "), " ")
	return fmt.Sprintf("but {{ %s }} is not for here: use values, if, else and with", word)
}

// walkPipe is walkTemplate for what stands between braces.
func walkPipe(pipe *syntax.PipeNode, top bool) string {
	for _, command := range pipe.Cmds {
		for _, arg := range command.Args {
			if bad := walkArgument(arg, top); bad != "" {
				return bad
			}
		}
	}
	return ""
}

func walkArgument(arg syntax.Node, top bool) string {
	switch arg := arg.(type) {
	case *syntax.PipeNode:
		return walkPipe(arg, top)
	case *syntax.ChainNode:
		return walkArgument(arg.Node, top)
	case *syntax.IdentifierNode:
		if !slices.Contains(templateFunctions, arg.Ident) {
			return fmt.Sprintf("but the function %s is not for here; use %s", arg.Ident, strings.Join(templateFunctions, ", "))
		}
	case *syntax.FieldNode:
		if top {
			return wantValue(arg.Ident)
		}
	case *syntax.VariableNode:
		if len(arg.Ident) > 1 && arg.Ident[0] == "$" {
			return wantValue(arg.Ident[1:])
		}
	}
	return ""
}

// wantValue says what is wrong with a path of fields.
func wantValue(path []string) string {
	switch {
	case !slices.Contains(templateValues, path[0]):
		hint := suggestText(path[0], templateValues)
		return fmt.Sprintf("but there is no .%s%s", path[0], cmp.Or(hint, "; known: ."+strings.Join(templateValues, ", .")))
	case path[0] != "labels" && len(path) > 1, len(path) > 2:
		return fmt.Sprintf("but nothing is below .%s", strings.Join(path[:len(path)-1], "."))
	}
	return ""
}
