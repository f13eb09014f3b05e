package emulator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"persistor/emulator/internal/wire"
)

// Rule selects messages of a topic for a subscription.
//
// A subscription gets a message once if rules without an action match, however many do. Each rule with an action that
// matches gives it one more, a copy that the action has changed and that has the rule's name in its property RuleName.
type Rule struct {
	Name string // 1 to 50 characters, without slashes; names differ by more than case
	// Filter is a [TrueFilter], [FalseFilter], [CorrelationFilter] or [SQLFilter]; a TrueFilter by default.
	Filter Filter
	// Action is a sequence of at most 32 statements, 1,024 characters in all, that run in order on the copy:
	//
	//	SET name = expression
	//	REMOVE name
	//
	// A semicolon may stand between them. Names and expressions are those of [SQLFilter]. Of the system's properties
	// ContentType, CorrelationId, Label (or Subject), MessageId, ReplyTo, ReplyToSessionId, SessionId and To can be set,
	// to the text of a value. A property that is there keeps its numeric type if the new number fits into it.
	Action string
}

// Filter is what a rule matches messages by. The types of this package are all that there are.
type Filter interface {
	// compile checks the filter and returns its test, which may run on several messages at once.
	compile() (func(*ruleMessage) bool, error)
}

// TrueFilter matches every message.
type TrueFilter struct{}

// FalseFilter matches no message.
type FalseFilter struct{}

func (TrueFilter) compile() (func(*ruleMessage) bool, error) {
	return func(*ruleMessage) bool { return true }, nil
}

func (FalseFilter) compile() (func(*ruleMessage) bool, error) {
	return func(*ruleMessage) bool { return false }, nil
}

// CorrelationFilter matches messages that have all that it asks for. Text is compared by case; an empty string asks for
// nothing, so that a property which is the empty string can't be asked for.
type CorrelationFilter struct {
	CorrelationID, MessageID, To, ReplyTo, Subject, SessionID, ReplyToSessionID, ContentType string
	// Properties are the application properties asked for, each a string, boolean, integer, floating-point number or
	// [time.Time]. A value equals those of its own kind alone: 1 is not "1", but an integer is one of any width.
	Properties map[string]any
}

func (f CorrelationFilter) compile() (func(*ruleMessage) bool, error) {
	wanted := map[int]string{}
	for field, text := range map[int]string{
		wire.PropertyMessageID: f.MessageID, wire.PropertyTo: f.To, wire.PropertySubject: f.Subject, wire.PropertyReplyTo: f.ReplyTo,
		wire.PropertyCorrelationID: f.CorrelationID, wire.PropertyContentType: f.ContentType, wire.PropertyGroupID: f.SessionID,
		wire.PropertyReplyToGroupID: f.ReplyToSessionID,
	} {
		if text != "" {
			wanted[field] = text
		}
	}
	properties := map[string]any{}
	for name, v := range f.Properties {
		switch properties[name] = ruleValue(v); properties[name].(type) {
		case string, bool, int64, float64, time.Time:
		default:
			return nil, fmt.Errorf("correlation filter: the property %s is a %T; want text, a boolean, a number or a time", quoteShort(name), v)
		}
	}
	return func(m *ruleMessage) bool {
		for field, text := range wanted {
			if got, _ := m.text(field).(string); got != text {
				return false
			}
		}
		for name, want := range properties {
			got, _ := m.property(name)
			if equal, ok := equalKind(ruleValue(got), want); !ok || !equal {
				return false
			}
		}
		return true
	}, nil
}

// SQLFilter matches messages by an expression of at most 1,024 characters, such as
//
//	sys.Label LIKE 'order-%' AND (quantity * price >= 100.5 OR NOT EXISTS([customer id]))
//
// It has the comparisons = <> != < <= > >=, [NOT] IN, [NOT] LIKE with an ESCAPE character, IS [NOT] NULL, EXISTS, AND,
// OR and NOT, the arithmetic + - * / %, literals, and the functions newid, property and p. Names of properties have any
// case; those after sys. are the message's own, and those after user. or nothing its application properties. The values
// of properties and text are compared by case. What is not known, such as a comparison with a property that is not
// there, is neither true nor false, and a message whose match is not known does not match.
//
// Left out: parameters; and a name after sys. that the service doesn't know is refused with the rule rather than when a
// message comes. An operation on values that do not go together, a division by zero and an overflow are not known here,
// where the service can move the message to the dead-letter queue instead.
type SQLFilter struct{ Expression string }

func (f SQLFilter) compile() (func(*ruleMessage) bool, error) {
	condition, err := parseSQLFilter(f.Expression)
	if err != nil {
		return nil, err
	}
	return func(m *ruleMessage) bool { return ruleValue(condition(m)) == true }, nil
}

const (
	maxRules      = 2000 // rules of a subscription
	maxRuleName   = 50   // characters
	defaultRule   = "$Default"
	ruleNameAdded = "RuleName" // the application property that a copy has its rule's name in
)

// rules are those of a subscription. They are safe for concurrent use.
type rules struct {
	e    *Emulator
	path string // of the subscription, for errors

	mu   sync.RWMutex
	list []*compiledRule
}

type compiledRule struct {
	Rule
	created time.Time
	match   func(*ruleMessage) bool
	action  []ruleStatement
}

// newRules makes the rules of a new subscription: those given, or one that matches everything if none are given. An
// empty slice that is not nil is no rules, with which a subscription gets nothing.
func newRules(e *Emulator, path string, given []Rule) (*rules, error) {
	if given == nil {
		given = []Rule{{Name: defaultRule}}
	}
	r := &rules{e: e, path: path}
	for _, rule := range given {
		if err := r.add(rule); err != nil {
			return nil, fmt.Errorf("rule %s: %w", quoteShort(rule.Name), err)
		}
	}
	return r, nil
}

var (
	errRuleExists   = errors.New("there is a rule of this name")
	errTooManyRules = fmt.Errorf("a subscription has at most %d rules", maxRules)
)

func (r *rules) add(rule Rule) error {
	compiled, err := compileRule(rule)
	if err != nil {
		return err
	}
	compiled.created = r.e.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.index(rule.Name) >= 0:
		return errRuleExists
	case len(r.list) >= maxRules:
		return errTooManyRules
	}
	r.list = append(r.list, compiled)
	return nil
}

func compileRule(rule Rule) (*compiledRule, error) {
	if n := utf8.RuneCountInString(rule.Name); n == 0 || n > maxRuleName || strings.ContainsAny(rule.Name, `/\`) {
		return nil, fmt.Errorf("the name must have 1 to %d characters and no slash", maxRuleName)
	}
	switch rule.Filter.(type) {
	case nil:
		rule.Filter = TrueFilter{}
	case TrueFilter, FalseFilter, CorrelationFilter, SQLFilter:
	default:
		return nil, fmt.Errorf("a filter is one of the package's types as a value, not a %T", rule.Filter)
	}
	compiled := &compiledRule{Rule: rule}
	var err error
	if compiled.match, err = rule.Filter.compile(); err != nil {
		return nil, err
	}
	compiled.action, err = parseSQLAction(rule.Action)
	return compiled, err
}

// remove reports whether there was a rule of the name.
func (r *rules) remove(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.index(name)
	if i >= 0 {
		r.list = slices.Delete(r.list, i, i+1)
	}
	return i >= 0
}

// index is a rule's place, -1 if there is none of the name. The lock is held.
func (r *rules) index(name string) int {
	return slices.IndexFunc(r.list, func(c *compiledRule) bool { return strings.EqualFold(c.Name, name) })
}

// all returns the rules of this moment, in the order in which they were made.
func (r *rules) all() []*compiledRule {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.list)
}

// route returns what a subscription gets of a message: the very message or not, and copies changed by actions.
func (r *rules) route(m *ruleMessage) (plain bool, changed [][]byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, rule := range r.list {
		switch hasAction := len(rule.action) > 0; {
		case !hasAction && plain || !rule.match(m):
		case hasAction:
			changed = append(changed, m.changed(rule))
		default:
			plain = true
		}
	}
	return plain, changed
}
