package sqlite

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// whole is a plan that reads all that a gateway has in a table which may have a
// million rows.
var whole = regexp.MustCompile(`SCAN scopegate_(credentials|generations|tokens|answers)|` +
	`(scopegate_(credentials|generations|tokens|answers)|\b[cgt]) USING .*\(gateway=\?\)`)

// No statement may read a whole table, but for the few that are there to do so:
// one that was added since TestStatementsUseIndexes was written neither.
func TestNoStatementReadsAWholeTable(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), "default")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found := 0
	for _, query := range statements(t) {
		found++
		got := plan(t, s, query)
		// Suspending all that a backup had, and counting every quarter of a minute.
		meant := strings.Contains(query, "'suspended'") || query == tokenCountsQuery
		if whole.MatchString(got) != meant {
			t.Errorf("reads whole tables: %v, want %v\n%s\n%s", !meant, meant, query, got)
		}
	}
	if found < 25 {
		t.Errorf("only %d statements were found in the source", found)
	}
}

// statements are those that stand in the package's source, as text that is
// known when it is compiled.
func statements(t *testing.T) (list []string) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	constants := map[string]ast.Expr{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		for _, decl := range file.Decls {
			if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
						for i, name := range v.Names {
							constants[name.Name] = v.Values[i]
						}
					}
				}
			}
		}
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			query := constant(e, constants)
			if sum, ok := n.(*ast.BinaryExpr); ok && sum.Op == token.ADD && query == "" {
				return false // put together while it runs, of which TestStatementsUseIndexes has examples
			}
			if !slices.ContainsFunc([]string{"SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "}, func(verb string) bool {
				return strings.HasPrefix(query, verb)
			}) {
				return true
			}
			if strings.Contains(query, "scopegate_") && !slices.Contains(list, query) {
				list = append(list, query)
			}
			return false
		})
	}
	return list
}

// constant is the value of an expression of strings, "" where it is not known.
func constant(e ast.Expr, constants map[string]ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			return ""
		}
		return text
	case *ast.Ident:
		if value, ok := constants[e.Name]; ok {
			return constant(value, constants)
		}
	case *ast.BinaryExpr:
		left, right := constant(e.X, constants), constant(e.Y, constants)
		if e.Op == token.ADD && left != "" && right != "" {
			return left + right
		}
	}
	return ""
}
