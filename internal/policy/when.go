package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Limits of `when`. There is no loop and nothing that builds a longer text, so
// the work grows with the expression and the claims alone, and both are bounded.
const (
	maxNodes      = 512
	maxDepth      = 32
	maxCost       = 20_000 // see effort
	maxPattern    = 256    // instructions of one regular expression
	maxMatched    = 2048   // bytes that matches looks at
	maxComplaints = 10     // of one expression
)

// functions is everything that `when` may call. Not among them: + (texts could
// grow), conversions to bytes and types, time zones (they read files), and every
// macro but has.
var functions = []*env.Function{
	only("_&&_"), only("_||_"), only("!_"), only("_?_:_"),
	only("_==_"), only("_!=_"), only("_<_"), only("_<=_"), only("_>_"), only("_>=_"),
	only("@in"), only("_[_]"), only("size"),
	only("startsWith"), only("endsWith"), only("contains"),
	only("int"), only("string", "string_to_string", "int64_to_string", "bool_to_string"),
	only("timestamp"), only("duration"),
	only("_-_", "subtract_timestamp_timestamp", "subtract_timestamp_duration", "subtract_duration_duration", "subtract_int64"),
	only("getFullYear", "timestamp_to_year"), only("getMonth", "timestamp_to_month"), only("getDate", "timestamp_to_day_of_month_1_based"),
	only("getDayOfWeek", "timestamp_to_day_of_week"), only("getHours", "timestamp_to_hours"), only("getMinutes", "timestamp_to_minutes"),
}

func only(function string, overloads ...string) *env.Function {
	f := env.NewFunction(function)
	for _, id := range overloads {
		f.Overloads = append(f.Overloads, &env.Overload{ID: id})
	}
	return f
}

// environment is what an expression may name: the proof of a cluster has more
// than others, and a name that a proof does not have is refused at load. Were it
// empty instead, a `!=` would let everybody in.
var (
	always    = []cel.EnvOption{text("subject"), text("issuer"), cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)), cel.Variable("now", cel.TimestampType), cel.Variable("request.scope", cel.ListType(cel.StringType)), text("request.audience")}
	ofCluster = []cel.EnvOption{text("cluster"), text(namespace), text("service_account"), text("pod.name"), text("pod.uid"), text("node.name"), text("node.uid")}

	anyEnvironment     = sync.OnceValues(func() (*cel.Env, error) { return environment() })
	clusterEnvironment = sync.OnceValues(func() (*cel.Env, error) { return environment(ofCluster...) })
)

// namespace is what the word is to the compiler, for which it is reserved. It is
// as long, so that places in the expression stay what they are.
const namespace = "_namespac"

func text(name string) cel.EnvOption { return cel.Variable(name, cel.StringType) }

func environment(more ...cel.EnvOption) (*cel.Env, error) {
	options := append([]cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddIncludedMacros("has").AddIncludedFunctions(functions...))),
		cel.Function("matches", cel.MemberOverload("matches_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(neverMatches))),
		cel.ASTValidators(patterns{}, cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
		cel.ParserRecursionLimit(maxDepth), cel.ParserErrorRecoveryLimit(1), cel.ExpressionNodeLimit(maxNodes),
	}, always...)
	return cel.NewCustomEnv(append(options, more...)...)
}

// condition is a compiled `when`.
type condition struct {
	source  string
	env     *cel.Env
	ast     *cel.Ast
	program cel.Program
}

// compile compiles the `when` of one policy.
func compile(p authority.Policy) (*condition, []authority.Problem) {
	names := anyEnvironment
	if p.From.Cluster != "" {
		names = clusterEnvironment
	}
	e, err := names()
	if err != nil {
		return nil, []authority.Problem{{Text: "cannot be compiled: " + err.Error()}}
	}
	checked, issues := e.Compile(p.When)
	for source := p.When; issues.Err() != nil; checked, issues = e.Compile(source) {
		// The parser knows where the word is a name, and where a part of a text.
		again := allowNamespace(source, issues)
		if again == source {
			break
		}
		source = again
	}
	if issues.Err() != nil {
		return nil, complaints(issues, p)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, []authority.Problem{{
			Text: "is " + checked.OutputType().String() + ", not true or false", Fix: "write a comparison, such as claims.ref_protected == true", Line: 1, Column: 1,
		}}
	}
	program, err := e.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.CostTracking(effort{}), cel.OptimizeRegex(boundedMatches))
	if err != nil {
		return nil, []authority.Problem{{Text: "cannot be compiled: " + err.Error(), Line: 1, Column: 1}}
	}
	return &condition{p.When, e, checked, program}, nil
}

// allowNamespace renames the places at which the parser found the word reserved.
func allowNamespace(source string, issues *cel.Issues) string {
	lines := strings.Split(source, "\n")
	for _, e := range issues.Errors() {
		line, column := e.Location.Line()-1, e.Location.Column()
		if e.Message != "reserved identifier: namespace" || line < 0 || line >= len(lines) {
			continue
		}
		text := []rune(lines[line])
		if column >= 0 && column+len(namespace) <= len(text) && string(text[column:column+len(namespace)]) == "namespace" {
			lines[line] = string(text[:column]) + namespace + string(text[column+len(namespace):])
		}
	}
	return strings.Join(lines, "\n")
}

// complaints gives what the compiler says its place in the expression.
func complaints(issues *cel.Issues, p authority.Policy) (found []authority.Problem) {
	for _, e := range issues.Errors() {
		if len(found) == maxComplaints {
			break
		}
		one := authority.Problem{Text: strings.ReplaceAll(strings.ToValidUTF8(e.Message, "?"), namespace, "namespace"), Fix: advice(e.Message, p)}
		if e.Location.Line() > 0 {
			one.Line, one.Column = e.Location.Line(), e.Location.Column()+1
		}
		found = append(found, one)
	}
	return found
}

func advice(message string, p authority.Policy) string {
	switch {
	case strings.HasPrefix(message, "undeclared reference to") && p.From.Cluster != "":
		return "use claims, subject, issuer, cluster, namespace, service_account, pod.name, pod.uid, node.name, node.uid, request.scope, request.audience, now; functions: docs/reference/policies.md"
	case strings.HasPrefix(message, "undeclared reference to"):
		return "use claims, subject, issuer, request.scope, request.audience, now (the proof is no cluster's); functions: docs/reference/policies.md"
	case strings.HasPrefix(message, "matches"):
		return "write ^(?:…)$ around the whole pattern"
	default:
		return "docs/reference/policies.md shows what an expression may say"
	}
}

// patterns holds regular expressions to being written out, bounded, and about
// the whole text: what is found anywhere in it matches prod-evil too.
type patterns struct{}

func (patterns) Name() string { return "signalbox.matches" }

func (patterns) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "matches" || len(e.AsCall().Args()) != 1 {
			return
		}
		pattern := e.AsCall().Args()[0]
		var text string
		if pattern.Kind() == ast.LiteralKind {
			text, _ = pattern.AsLiteral().Value().(string)
		}
		if err := checkPattern(text); err != nil {
			issues.ReportErrorAtID(pattern.ID(), "matches %s", err)
		}
	}))
}

func checkPattern(text string) error {
	if text == "" {
		return errors.New("takes a pattern that is written out")
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return fmt.Errorf("has a pattern that is no regular expression: %w", err)
	}
	compiled, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(compiled.Inst) > maxPattern {
		return errors.New("has a pattern that is too large")
	}
	if parsed.Op != syntax.OpConcat || parsed.Sub[0].Op != syntax.OpBeginText || parsed.Sub[len(parsed.Sub)-1].Op != syntax.OpEndText {
		return errors.New("has a pattern that would be found anywhere in the text")
	}
	return nil
}

// boundedMatches compiles a pattern at load, and looks at short texts only.
var boundedMatches = &interpreter.RegexOptimization{
	Function: "matches", OverloadID: "matches_string", RegexIndex: 1,
	Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(values ...ref.Val) ref.Val {
			in, ok := values[0].Value().(string)
			switch {
			case types.IsUnknownOrError(values[0]):
				return values[0]
			case !ok:
				return types.NewErr("matches needs a text")
			case len(in) > maxMatched:
				return types.NewErr("matches looks at no more than %d bytes", maxMatched)
			}
			return types.Bool(compiled.MatchString(in))
		}), nil
	},
}

// neverMatches is what matches would call without boundedMatches.
func neverMatches(ref.Val, ref.Val) ref.Val {
	return types.NewErr("matches without a compiled pattern")
}

// effort is the cost of a call: one, and one for every ten bytes of text and every
// member of a list that it is given. CEL's own model prices a call by its
// overload, and one about claims has several.
type effort struct{}

func (effort) CallCost(_, _ string, args []ref.Val, _ ref.Val) *uint64 {
	var sum uint64 = 1
	for _, v := range args {
		sum += size(v)
	}
	return &sum
}

func size(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v) / 10)
	case traits.Lister:
		var sum uint64
		for i := v.Iterator(); i.HasNext() == types.True; {
			sum += 1 + size(i.Next())
		}
		return sum
	default:
		return 0
	}
}

var errNotBool = errors.New("is neither true nor false")

// holds evaluates the condition. Whatever is not true or false is an error.
func (c *condition) holds(v *view) (bool, error) {
	out, _, err := c.program.Eval(v)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(b), nil
}
