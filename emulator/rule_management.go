package emulator

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"persistor/emulator/internal/wire"
)

// Descriptors of what a rule is made of in a reply. Those of filters have a digit less than the others.
const (
	descRule              = 0x13700000004
	descEmptyAction       = 0x13700000005
	descSQLAction         = 0x13700000006
	descSQLFilter         = 0x1370000006
	descTrueFilter        = 0x1370000007
	descFalseFilter       = 0x1370000008
	descCorrelationFilter = 0x1370000009
)

// sqlCompatibility is the version of the language of expressions, the only one there is.
const sqlCompatibility = int32(20)

// addRule answers com.microsoft:add-rule, whose body is a map:
//
//	rule-name         string
//	rule-description  map of sql-filter {expression} or correlation-filter {correlation-id, ...},
//	                  and sql-rule-action {expression} or null
//
// Clients write a filter that is always true as the expression 1=1.
func (r *rules) addRule(body wire.Map) *reply {
	rule, err := decodeRule(body)
	if err == nil {
		err = r.add(rule)
	}
	switch {
	case err == nil:
		return &reply{status: http.StatusOK, description: "OK"}
	case errors.Is(err, errRuleExists):
		return refuse(http.StatusConflict, "com.microsoft:entity-already-exists", r.e.describe(r.path,
			"The messaging entity '%s' already exists.", r.rulePath(rule.Name)))
	case errors.Is(err, errTooManyRules):
		return refuse(http.StatusForbidden, wire.ConditionResourceLimitExceeded, err.Error())
	case errors.Is(err, errParameters):
		return refuse(http.StatusNotImplemented, wire.ConditionNotImplemented, err.Error())
	}
	return refuse(http.StatusBadRequest, "com.microsoft:argument-error", "add rule: "+err.Error())
}

// removeRule answers com.microsoft:remove-rule, whose body has the rule-name.
func (r *rules) removeRule(body wire.Map) *reply {
	name := body.String("rule-name")
	if !r.remove(name) {
		missing := r.e.notFound(r.rulePath(name))
		return refuse(http.StatusNotFound, missing.Condition, missing.Description)
	}
	return &reply{status: http.StatusOK, description: "OK"}
}

// enumerateRules answers com.microsoft:enumerate-rules: the rules after the first skip, at most top.
func (r *rules) enumerateRules(body wire.Map) *reply {
	all := r.all()
	skip, _ := ruleValue(body.Get("skip")).(int64)
	all = all[min(max(skip, 0), int64(len(all))):]
	if top, ok := ruleValue(body.Get("top")).(int64); ok {
		all = all[:min(max(top, 0), int64(len(all)))]
	}
	if len(all) == 0 {
		return &reply{status: http.StatusNoContent, description: "No Content"}
	}
	list := make([]any, len(all))
	for i, rule := range all {
		list[i] = wire.Map{{Key: "rule-description", Value: rule.encode()}}
	}
	return &reply{status: http.StatusOK, description: "OK", body: wire.Map{{Key: "rules", Value: list}}}
}

func (r *rules) rulePath(name string) string { return r.path + "/Rules/" + name }

var errParameters = errors.New("parameters of SQL expressions are not supported; write the values")

func decodeRule(body wire.Map) (Rule, error) {
	rule := Rule{Name: body.String("rule-name")}
	description, ok := body.Get("rule-description").(wire.Map)
	if !ok {
		return rule, errors.New("the request has no map rule-description")
	}
	filter, isSQL := description.Get("sql-filter").(wire.Map)
	correlation, isCorrelation := description.Get("correlation-filter").(wire.Map)
	var err error
	switch {
	case isSQL == isCorrelation:
		return rule, errors.New("the rule-description must have a map sql-filter or a map correlation-filter")
	case isSQL:
		var f SQLFilter
		f.Expression, err = decodeExpression(filter)
		rule.Filter = f
	default:
		rule.Filter, err = decodeCorrelation(correlation)
	}
	if action, ok := description.Get("sql-rule-action").(wire.Map); ok && err == nil {
		rule.Action, err = decodeExpression(action)
	}
	return rule, err
}

func decodeExpression(m wire.Map) (string, error) {
	if parameters, ok := m.Get("parameters").(wire.Map); ok && len(parameters) > 0 {
		return "", errParameters
	}
	return m.String("expression"), nil
}

func decodeCorrelation(m wire.Map) (Filter, error) {
	f := CorrelationFilter{
		CorrelationID: m.String("correlation-id"), MessageID: m.String("message-id"), To: m.String("to"),
		ReplyTo: m.String("reply-to"), Subject: m.String("label"), SessionID: m.String("session-id"),
		ReplyToSessionID: m.String("reply-to-session-id"), ContentType: m.String("content-type"),
	}
	properties, _ := m.Get("properties").(wire.Map)
	for _, p := range properties {
		name, ok := ruleValue(p.Key).(string)
		if !ok {
			return nil, fmt.Errorf("correlation filter: the name of a property is a %T; want text", p.Key)
		}
		if f.Properties == nil {
			f.Properties = map[string]any{}
		}
		f.Properties[name] = p.Value
	}
	return f, nil
}

// encode returns the rule as clients list it: the filter, the action, which must not be null, the name, and when the
// rule was made.
func (c *compiledRule) encode() wire.Described {
	action := wire.Described{Descriptor: uint64(descEmptyAction), Value: []any{}}
	if strings.TrimSpace(c.Action) != "" {
		action = wire.Described{Descriptor: uint64(descSQLAction), Value: []any{c.Action, sqlCompatibility}}
	}
	return wire.Described{Descriptor: uint64(descRule), Value: []any{
		encodeFilter(c.Filter), action, c.Name, wire.Timestamp(c.created.UnixMilli()),
	}}
}

func encodeFilter(f Filter) wire.Described {
	switch f := f.(type) {
	case FalseFilter:
		return wire.Described{Descriptor: uint64(descFalseFilter), Value: []any{}}
	case SQLFilter:
		return wire.Described{Descriptor: uint64(descSQLFilter), Value: []any{f.Expression, sqlCompatibility}}
	case CorrelationFilter:
		list := make([]any, 0, 9)
		for _, text := range []string{
			f.CorrelationID, f.MessageID, f.To, f.ReplyTo, f.Subject, f.SessionID, f.ReplyToSessionID, f.ContentType,
		} {
			if text == "" {
				list = append(list, nil)
			} else {
				list = append(list, text)
			}
		}
		properties := wire.Map{}
		for name, v := range f.Properties {
			properties = append(properties, wire.Pair{Key: name, Value: storable(v)})
		}
		return wire.Described{Descriptor: uint64(descCorrelationFilter), Value: append(list, properties)}
	default:
		return wire.Described{Descriptor: uint64(descTrueFilter), Value: []any{}}
	}
}
