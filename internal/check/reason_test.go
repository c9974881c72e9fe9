package check_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/serviceradar/poller/internal/check"
)

// TestReasonsAreComplete: the list has each of the constants, once.
func TestReasonsAreComplete(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var constants []check.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			constants = append(constants, check.Reason(value))
		}
		return true
	})
	if !slices.Equal(constants, check.Reasons[:]) {
		t.Errorf("the constants are %q, the list has %q", constants, check.Reasons)
	}
}
