package emulator

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxSQL           = 1024 // characters of an expression or an action
	maxSQLDepth      = 32   // of parentheses, NOT and signs
	maxSQLStatements = 32   // of an action
)

// sqlTerm is a part of an expression, and what it yields for a message: see [ruleValue] for the types, nil for unknown.
type sqlTerm struct {
	eval ruleTerm
	at   int // where it begins, in characters from 1
	// predicate and operand say what it can stand for: a comparison is no operand of arithmetic, nor 5 a predicate.
	// A property, a boolean and a call may be either. What is in parentheses is what it would be without.
	predicate, operand bool
	property           bool
}

type ruleTerm func(*ruleMessage) any

// ruleStatement is a SET or REMOVE, ready to run on a copy.
type ruleStatement func(*ruleMessage)

// parseSQLFilter reads the expression of a filter, in the precedence of SQL:
//
//	or         = and { OR and }
//	and        = not { AND not }
//	not        = NOT not | comparison
//	comparison = sum [ ( = | <> | != | < | <= | > | >= ) sum | [NOT] IN ( sum {, sum} )
//	                 | [NOT] LIKE sum [ESCAPE 'c'] | IS [NOT] NULL ]
//	sum        = product { ( + | - ) product }
//	product    = sign { ( * | / | % ) sign }
//	sign       = ( + | - ) sign | primary
//	primary    = literal | property | EXISTS ( property ) | newid() | property(sum) | p(sum) | ( or )
//
// An error says where, in characters from 1. Source: "Subscription Rule SQL Filter Syntax" in the service's
// documentation.
func parseSQLFilter(text string) (ruleTerm, error) {
	p, err := newSQLParser(text)
	if err != nil {
		return nil, fmt.Errorf("SQL filter: %w", err)
	}
	condition := p.or()
	p.asPredicate(condition)
	p.end()
	if p.err != nil {
		return nil, fmt.Errorf("SQL filter %s: %w", quoteShort(text), p.err)
	}
	return condition.eval, nil
}

// parseSQLAction reads the statements of an action, none for an empty text.
func parseSQLAction(text string) ([]ruleStatement, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	p, err := newSQLParser(text)
	if err != nil {
		return nil, fmt.Errorf("SQL action: %w", err)
	}
	var statements []ruleStatement
	for p.err == nil && p.token.kind != sqlEnd {
		statements = append(statements, p.statement())
		for p.takeSymbol(";") {
		}
		if len(statements) > maxSQLStatements {
			p.fail(p.token.at, "an action has at most %d statements", maxSQLStatements)
		}
	}
	if p.err != nil {
		return nil, fmt.Errorf("SQL action %s: %w", quoteShort(text), p.err)
	}
	return statements, nil
}

// sqlParser reads an expression front to back. The first error sticks, and then every token is the end.
type sqlParser struct {
	rest  string
	at    int // place of rest, in characters from 1
	token sqlToken
	depth int
	err   error
}

type sqlToken struct {
	kind sqlKind
	text string // of an identifier or string without its quotes, of a word upper-cased, else as it is
	at   int
}

type sqlKind uint8

const (
	sqlEnd    sqlKind = iota
	sqlWord           // a reserved word
	sqlName           // an identifier
	sqlQuoted         // an identifier in brackets or double quotes
	sqlString
	sqlNumber
	sqlSymbol
)

// sqlWords are reserved. SET and REMOVE are words only where a statement begins.
var sqlWords = map[string]bool{
	"AND": true, "OR": true, "NOT": true, "IN": true, "LIKE": true, "ESCAPE": true, "IS": true, "NULL": true,
	"EXISTS": true, "TRUE": true, "FALSE": true,
}

func newSQLParser(text string) (*sqlParser, error) {
	switch n := utf8.RuneCountInString(text); {
	case n > maxSQL:
		return nil, fmt.Errorf("it has %d characters, more than %d", n, maxSQL)
	case !utf8.ValidString(text):
		return nil, errors.New("it is not UTF-8")
	}
	p := &sqlParser{rest: text, at: 1}
	p.next()
	return p, nil
}

func (p *sqlParser) fail(at int, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("at character %d: %s", at, fmt.Sprintf(format, args...))
	}
	p.rest, p.token = "", sqlToken{at: at}
}

// next reads the next token.
func (p *sqlParser) next() {
	trimmed := strings.TrimLeftFunc(p.rest, unicode.IsSpace)
	p.skip(len(p.rest) - len(trimmed))
	p.token = sqlToken{at: p.at}
	if p.rest == "" {
		return
	}
	first, size := utf8.DecodeRuneInString(p.rest)
	switch {
	case unicode.IsLetter(first):
		n := prefixLength(p.rest, func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) })
		p.token.kind, p.token.text = sqlName, p.skip(n)
		if word := strings.ToUpper(p.token.text); sqlWords[word] {
			p.token.kind, p.token.text = sqlWord, word
		}
	case first >= '0' && first <= '9':
		p.token.kind, p.token.text = sqlNumber, p.skip(numberLength(p.rest))
	case first == '\'':
		p.quoted(sqlString, "'")
	case first == '"':
		p.quoted(sqlQuoted, `"`)
	case first == '[':
		p.quoted(sqlQuoted, "]")
	case first == '@':
		p.fail(p.at, "parameters such as @name are not supported; write the value")
	default:
		n := size
		for _, two := range []string{"<>", "!=", "<=", ">="} {
			if strings.HasPrefix(p.rest, two) {
				n = 2
			}
		}
		p.token.kind, p.token.text = sqlSymbol, p.skip(n)
	}
}

// skip takes bytes off and counts their characters.
func (p *sqlParser) skip(n int) string {
	text := p.rest[:n]
	p.rest = p.rest[n:]
	p.at += utf8.RuneCountInString(text)
	return text
}

// quoted reads a token in quotes; a closing quote in it is written twice.
func (p *sqlParser) quoted(kind sqlKind, closing string) {
	at := p.at
	p.skip(1)
	var text strings.Builder
	for {
		before, _, found := strings.Cut(p.rest, closing)
		if !found {
			p.fail(at, "the closing %s is missing", closing)
			return
		}
		text.WriteString(p.skip(len(before)))
		p.skip(1)
		if !strings.HasPrefix(p.rest, closing) {
			break
		}
		text.WriteString(p.skip(1))
	}
	p.token = sqlToken{kind, text.String(), at}
}

func prefixLength(s string, in func(rune) bool) int {
	if i := strings.IndexFunc(s, func(r rune) bool { return !in(r) }); i >= 0 {
		return i
	}
	return len(s)
}

// numberLength is the length of a number: digits, and then perhaps a point with digits and an exponent.
func numberLength(s string) int {
	digits := func(from int) int {
		return from + prefixLength(s[from:], func(r rune) bool { return r >= '0' && r <= '9' })
	}
	n := digits(0)
	if n+1 < len(s) && s[n] == '.' && digits(n+1) > n+1 {
		n = digits(n + 1)
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		exponent := n + 1
		if exponent < len(s) && (s[exponent] == '+' || s[exponent] == '-') {
			exponent++
		}
		if end := digits(exponent); end > exponent {
			n = end
		}
	}
	return n
}

func (p *sqlParser) takeWord(word string) bool     { return p.take(sqlWord, word) }
func (p *sqlParser) takeSymbol(symbol string) bool { return p.take(sqlSymbol, symbol) }

func (p *sqlParser) take(kind sqlKind, text string) bool {
	if p.token.kind != kind || p.token.text != text {
		return false
	}
	p.next()
	return true
}

func (p *sqlParser) expect(symbol string) {
	if !p.takeSymbol(symbol) {
		p.unexpected(symbol)
	}
}

func (p *sqlParser) unexpected(wanted string) {
	switch p.token.kind {
	case sqlEnd:
		p.fail(p.token.at, "%s is expected, not the end", wanted)
	case sqlString:
		p.fail(p.token.at, "%s is expected, not a text", wanted)
	default:
		p.fail(p.token.at, "%s is expected, not %s", wanted, quoteShort(p.token.text))
	}
}

func (p *sqlParser) end() {
	if p.token.kind != sqlEnd {
		p.unexpected("an operator or the end")
	}
}

// deeper reports whether there may be another level of nesting; it must be followed by shallower.
func (p *sqlParser) deeper() bool {
	if p.depth++; p.depth > maxSQLDepth {
		p.fail(p.token.at, "it nests deeper than %d", maxSQLDepth)
	}
	return p.err == nil
}

func (p *sqlParser) shallower() { p.depth-- }

// asPredicate and asOperand return what a term yields, and fail if it is not one. After a failure nothing is evaluated.
func (p *sqlParser) asPredicate(t sqlTerm) ruleTerm {
	if !t.predicate {
		p.fail(t.at, "a condition is expected, not a value")
	}
	return t.eval
}

func (p *sqlParser) asOperand(t sqlTerm) ruleTerm {
	if !t.operand {
		p.fail(t.at, "a value is expected, not a condition")
	}
	return t.eval
}

func (p *sqlParser) or() sqlTerm {
	left := p.and()
	for p.takeWord("OR") {
		right := p.and()
		left = sqlTerm{eval: orTerm(p.asPredicate(left), p.asPredicate(right)), at: left.at, predicate: true}
	}
	return left
}

func orTerm(a, b ruleTerm) ruleTerm {
	return func(m *ruleMessage) any {
		x := ruleValue(a(m))
		if x == true {
			return true
		}
		switch y := ruleValue(b(m)); {
		case y == true:
			return true
		case x == false && y == false:
			return false
		}
		return nil
	}
}

func (p *sqlParser) and() sqlTerm {
	left := p.not()
	for p.takeWord("AND") {
		right := p.not()
		left = sqlTerm{eval: andTerm(p.asPredicate(left), p.asPredicate(right)), at: left.at, predicate: true}
	}
	return left
}

func andTerm(a, b ruleTerm) ruleTerm {
	return func(m *ruleMessage) any {
		x := ruleValue(a(m))
		if x == false {
			return false
		}
		switch y := ruleValue(b(m)); {
		case y == false:
			return false
		case x == true && y == true:
			return true
		}
		return nil
	}
}

func (p *sqlParser) not() sqlTerm {
	at := p.token.at
	if !p.takeWord("NOT") {
		return p.comparison()
	}
	defer p.shallower()
	if !p.deeper() {
		return sqlTerm{}
	}
	return sqlTerm{eval: notTerm(p.asPredicate(p.not())), at: at, predicate: true}
}

func notTerm(a ruleTerm) ruleTerm {
	return func(m *ruleMessage) any {
		if x, ok := ruleValue(a(m)).(bool); ok {
			return !x
		}
		return nil
	}
}

func (p *sqlParser) comparison() sqlTerm {
	left := p.sum()
	condition := func(eval ruleTerm) sqlTerm { return sqlTerm{eval: eval, at: left.at, predicate: true} }
	if p.token.kind == sqlSymbol {
		switch operator := p.token.text; operator {
		case "=", "<>", "!=", "<", "<=", ">", ">=":
			p.next()
			if operator == "!=" {
				operator = "<>"
			}
			a, b := p.asOperand(left), p.asOperand(p.sum())
			return condition(func(m *ruleMessage) any { return compare(operator, a(m), b(m)) })
		}
		return left
	}
	if p.takeWord("IS") {
		negated := p.takeWord("NOT")
		if !p.takeWord("NULL") {
			p.unexpected("NULL")
		}
		if !left.property {
			p.fail(left.at, "only a property can be asked whether it IS NULL")
		}
		a := left.eval
		return condition(func(m *ruleMessage) any { return (a(m) == nil) != negated })
	}
	negated := p.takeWord("NOT")
	var eval ruleTerm
	switch {
	case p.takeWord("IN"):
		eval = p.in(p.asOperand(left))
	case p.takeWord("LIKE"):
		eval = p.like(p.asOperand(left))
	case negated:
		p.unexpected("IN or LIKE")
		return sqlTerm{}
	default:
		return left
	}
	if negated {
		eval = notTerm(eval)
	}
	return condition(eval)
}

// in reads the list after IN. As in SQL, what equals none of a list with an unknown value in it may be that value.
func (p *sqlParser) in(a ruleTerm) ruleTerm {
	p.expect("(")
	var list []ruleTerm
	for {
		list = append(list, p.asOperand(p.sum()))
		if !p.takeSymbol(",") {
			break
		}
	}
	p.expect(")")
	return func(m *ruleMessage) any {
		x := a(m)
		result := any(false)
		for _, item := range list {
			switch compare("=", x, item(m)) {
			case true:
				return true
			case nil:
				result = nil
			}
		}
		return result
	}
}

// like reads what comes after LIKE. The escape must be a literal, so that a wrong one shows at once.
func (p *sqlParser) like(a ruleTerm) ruleTerm {
	b := p.asOperand(p.sum())
	var escape rune
	escaped := p.takeWord("ESCAPE")
	if escaped {
		if p.token.kind != sqlString || utf8.RuneCountInString(p.token.text) != 1 {
			p.unexpected("a text of one character")
			return nil
		}
		escape, _ = utf8.DecodeRuneInString(p.token.text)
		p.next()
	}
	return func(m *ruleMessage) any {
		text, ok := ruleValue(a(m)).(string)
		pattern, ok2 := ruleValue(b(m)).(string)
		if !ok || !ok2 || len(text) > maxLikeText || len(pattern) > maxSQL*utf8.UTFMax {
			return nil
		}
		return parseLike(pattern, escape, escaped).matches(text)
	}
}

func (p *sqlParser) sum() sqlTerm {
	return p.arithmetic(p.product, "+", "-")
}

func (p *sqlParser) product() sqlTerm {
	return p.arithmetic(p.sign, "*", "/", "%")
}

// arithmetic reads operands with operators of one precedence between them.
func (p *sqlParser) arithmetic(operand func() sqlTerm, operators ...string) sqlTerm {
	left := operand()
	for i := 0; i < len(operators); i++ {
		operator := operators[i][0]
		if p.takeSymbol(operators[i]) {
			a, b := p.asOperand(left), p.asOperand(operand())
			left = sqlTerm{eval: func(m *ruleMessage) any { return calculate(operator, a(m), b(m)) }, at: left.at, operand: true}
			i = -1 // from the first operator again
		}
	}
	return left
}

func (p *sqlParser) sign() sqlTerm {
	at, negative := p.token.at, p.takeSymbol("-")
	if !negative && !p.takeSymbol("+") {
		return p.primary()
	}
	if negative && p.token.kind == sqlNumber {
		return p.number(at, "-")
	}
	defer p.shallower()
	if !p.deeper() {
		return sqlTerm{}
	}
	a := p.asOperand(p.sign())
	return sqlTerm{at: at, operand: true, eval: func(m *ruleMessage) any {
		if negative {
			return calculate('-', int64(0), a(m))
		}
		return calculate('+', int64(0), a(m))
	}}
}

// number reads a number with its sign, for the least integer has no positive counterpart.
func (p *sqlParser) number(at int, sign string) sqlTerm {
	text := sign + p.token.text
	var v any
	var err error
	if strings.ContainsAny(text, ".eE") {
		v, err = strconv.ParseFloat(text, 64)
	} else {
		v, err = strconv.ParseInt(text, 10, 64)
	}
	if err != nil {
		p.fail(at, "%s does not fit into 64 bits", quoteShort(text))
	}
	p.next()
	return sqlTerm{eval: constant(v), at: at, operand: true}
}

func constant(v any) ruleTerm { return func(*ruleMessage) any { return v } }

func (p *sqlParser) primary() sqlTerm {
	t := p.token
	switch t.kind {
	case sqlNumber:
		return p.number(t.at, "")
	case sqlString:
		p.next()
		return sqlTerm{eval: constant(t.text), at: t.at, operand: true}
	case sqlName, sqlQuoted:
		return p.name()
	case sqlWord:
		switch {
		case p.takeWord("TRUE"):
			return sqlTerm{eval: constant(true), at: t.at, predicate: true, operand: true}
		case p.takeWord("FALSE"):
			return sqlTerm{eval: constant(false), at: t.at, predicate: true, operand: true}
		case p.takeWord("NULL"):
			return sqlTerm{eval: constant(nil), at: t.at, operand: true}
		case p.takeWord("EXISTS"):
			return sqlTerm{eval: p.exists(), at: t.at, predicate: true}
		}
	case sqlSymbol:
		if p.takeSymbol("(") {
			defer p.shallower()
			if !p.deeper() {
				return sqlTerm{}
			}
			inside := p.or()
			p.expect(")")
			inside.at, inside.property = t.at, false
			return inside
		}
	}
	p.unexpected("a value")
	return sqlTerm{}
}

// exists reads the property after EXISTS. A system property exists if the message has a value for it.
func (p *sqlParser) exists() ruleTerm {
	p.expect("(")
	system, name := p.propertyName()
	p.expect(")")
	return func(m *ruleMessage) any {
		if system != nil {
			return system.read(m) != nil
		}
		_, found := m.property(name)
		return found
	}
}

// name reads a property or a call of a function.
func (p *sqlParser) name() sqlTerm {
	t := p.token
	if t.kind == sqlName && strings.HasPrefix(strings.TrimLeftFunc(p.rest, unicode.IsSpace), "(") {
		return p.call()
	}
	system, name := p.propertyName()
	term := sqlTerm{at: t.at, predicate: true, operand: true, property: true}
	if system != nil {
		term.eval = system.read
	} else {
		term.eval = func(m *ruleMessage) any { v, _ := m.property(name); return v }
	}
	return term
}

func (p *sqlParser) call() sqlTerm {
	t := p.token
	p.next()
	p.expect("(")
	term := sqlTerm{at: t.at, operand: true}
	switch function := strings.ToLower(t.text); function {
	case "newid":
		term.eval = newID
	case "property", "p":
		a := p.asOperand(p.sum())
		term.predicate = true
		term.eval = func(m *ruleMessage) any {
			name, _ := ruleValue(a(m)).(string)
			v, _ := m.property(name)
			return v
		}
	default:
		p.fail(t.at, "there is no function %s; the functions are newid, property and p", quoteShort(t.text))
	}
	p.expect(")")
	return term
}

// propertyName reads [sys.|user.]name. It returns the system property or the name of an application property.
func (p *sqlParser) propertyName() (*systemProperty, string) {
	t := p.token
	if t.kind != sqlName && t.kind != sqlQuoted {
		p.unexpected("the name of a property")
		return nil, ""
	}
	p.next()
	if t.kind == sqlQuoted || !p.takeSymbol(".") {
		return nil, t.text
	}
	name := p.token
	if name.kind != sqlName && name.kind != sqlQuoted {
		p.unexpected("the name of a property")
		return nil, ""
	}
	p.next()
	switch strings.ToLower(t.text) {
	case "user":
		return nil, name.text
	case "sys":
		system, known := systemProperties[strings.ToLower(name.text)]
		if !known {
			p.fail(name.at, "there is no system property %s", quoteShort(name.text))
		}
		return &system, ""
	}
	p.fail(t.at, "%s is no scope; want sys or user, or the whole name in brackets", quoteShort(t.text))
	return nil, ""
}

// statement reads a SET or REMOVE.
func (p *sqlParser) statement() ruleStatement {
	verb := strings.ToUpper(p.token.text)
	if p.token.kind != sqlName || verb != "SET" && verb != "REMOVE" {
		p.unexpected("SET or REMOVE")
		return nil
	}
	p.next()
	at := p.token.at
	system, name := p.propertyName()
	if system != nil && system.field < 0 {
		p.fail(at, "this system property can't be changed; %s can", settableProperties)
	}
	if verb == "REMOVE" {
		return func(m *ruleMessage) {
			if system != nil {
				m.setField(system.field, nil)
			} else {
				m.remove(name)
			}
		}
	}
	p.expect("=")
	value := p.asOperand(p.sum())
	return func(m *ruleMessage) {
		if system != nil {
			m.setField(system.field, value(m))
		} else {
			m.set(name, value(m))
		}
	}
}
