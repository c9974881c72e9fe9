package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// typeOf is the type in docs/log.md of what a method of zerolog's events takes.
var typeOf = map[string]string{
	"Str": "text", "AnErr": "text", "Strs": "list", "Int": "number", "Int64": "number", "Uint32": "number", "Uint64": "number", "Bool": "boolean",
	"Stringer": "duration", "Time": "time", "Interface": "object",
}

// levels are those that a line may begin with.
var levels = map[string]string{"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error"}

// vocabulary is what the log is made of: keys with their types, and messages with their levels, as far as the line itself has it.
type vocabulary struct{ keys, messages map[string]string }

// source reads the vocabulary out of the code that logs.
func source(t *testing.T) vocabulary {
	t.Helper()
	v := vocabulary{keys: map[string]string{"level": "text", "time": "time", "message": "text"}, messages: make(map[string]string)}
	for _, dir := range []string{".", "../observe", "../../cmd/poller"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool { v.take(t, n); return true })
		}
	}
	return v
}

// take notes what a node adds to a line.
func (v vocabulary) take(t *testing.T, n ast.Node) {
	t.Helper()
	switch n := n.(type) {
	case *ast.CallExpr:
		v.call(t, n)
	case *ast.AssignStmt: // level, msg := …
		for i, left := range n.Lhs {
			if name, ok := left.(*ast.Ident); ok && name.Name == "msg" && i < len(n.Rhs) {
				v.message(t, n.Rhs[i], "")
			}
		}
	case *ast.ValueSpec: // const msg = …
		for i, name := range n.Names {
			if (name.Name == "msg" || name.Name == "unwatched") && i < len(n.Values) {
				v.message(t, n.Values[i], "")
			}
		}
	}
}

func (v vocabulary) call(t *testing.T, call *ast.CallExpr) {
	t.Helper()
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	switch kind := typeOf[f.Sel.Name]; {
	case kind != "" && len(call.Args) == 2:
		if name, ok := call.Args[0].(*ast.SelectorExpr); ok && name.Sel.Name == "TimestampFieldName" {
			return // each line has it
		}
		key, ok := literal(call.Args[0])
		if !ok {
			t.Errorf("%s: the key is not a literal, so that nobody can know all that there are", f.Sel.Name)
			return
		}
		if known := v.keys[key]; known != "" && known != kind {
			t.Errorf("key %s is both %s and %s", key, known, kind)
		}
		v.keys[key] = kind
	case f.Sel.Name == "Err" && len(call.Args) == 1:
		v.keys["error"] = "text"
	case f.Sel.Name == "Msg" && len(call.Args) == 1:
		if name, ok := call.Args[0].(*ast.Ident); ok && (name.Name == "msg" || name.Name == "what") {
			return // noted where it is made
		}
		v.message(t, call.Args[0], levelOf(f.X))
	case f.Sel.Name == "problem" && len(call.Args) == 2:
		if name, ok := call.Args[1].(*ast.Ident); !ok || name.Name != "unwatched" {
			v.message(t, call.Args[1], "warn")
		}
	}
}

// levelOf returns the level that a chain of calls begins with; empty if it is reckoned.
func levelOf(chain ast.Expr) string {
	for {
		call, ok := chain.(*ast.CallExpr)
		if !ok {
			return ""
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		if level := levels[f.Sel.Name]; level != "" && len(call.Args) == 0 {
			return level
		}
		chain = f.X
	}
}

func (v vocabulary) message(t *testing.T, text ast.Expr, level string) {
	t.Helper()
	msg, ok := literal(text)
	if !ok {
		t.Errorf("a message is made of %T, and not a literal", text)
		return
	}
	v.messages[msg] = level
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

var (
	keyRow     = regexp.MustCompile("^\\| `([^`]+)` \\| ([a-z]+) \\| .+ \\|$")
	messageRow = regexp.MustCompile(`^\| ([^|]+) \| ([a-z, ]+) \| ([^|]+) \|$`)
	inRow      = regexp.MustCompile("`([^`]+)`")
	snakeCase  = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
)

// TestLogHasAFixedVocabulary: docs/log.md has each key and each message that the poller logs, and no other; a key has one type.
func TestLogHasAFixedVocabulary(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/log.md")
	if err != nil {
		t.Fatal(err)
	}
	wrote, used := source(t), []string{"level", "time", "message"}
	keys, messages := make(map[string]string), make(map[string]string)
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		if row := keyRow.FindStringSubmatch(line); row != nil {
			keys[row[1]] = row[2]
			continue
		}
		row := messageRow.FindStringSubmatch(line)
		if row == nil || row[1] == "message" || row[1] == "key" { // a table's head
			continue
		}
		messages[row[1]] = row[2]
		if wrote.messages[row[1]] == "" { // reckoned, and so for people to tell
			messages[row[1]] = ""
		}
		for _, key := range inRow.FindAllStringSubmatch(row[3], -1) {
			used = append(used, key[1])
		}
	}
	if diff := cmp.Diff(wrote.keys, keys); diff != "" {
		t.Errorf("keys and their types (-code +docs/log.md):\n%s", diff)
	}
	if diff := cmp.Diff(wrote.messages, messages); diff != "" {
		t.Errorf("messages and their levels (-code +docs/log.md):\n%s", diff)
	}
	for key := range keys {
		if !snakeCase.MatchString(key) {
			t.Errorf("key %q is not in snake_case", key)
		}
		if !slices.Contains(used, key) {
			t.Errorf("key %q is with no message", key)
		}
	}
	for _, key := range used {
		if keys[key] == "" {
			t.Errorf("a message has a key %q, which is not in the table of keys", key)
		}
	}
}
