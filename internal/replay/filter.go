package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/itchyny/gojq"

	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/selection"
)

const (
	// MaxExpression is the longest jq expression, in bytes.
	MaxExpression = 64 << 10
	// filterTime is how long an expression may take over one record.
	filterTime = 2 * time.Second
)

// Filter is a jq expression over a record, in the form of docs/record.md. It selects the records for which its first
// output is neither false nor null, so that both `.METADATA.level == "error"` and `select(.METADATA.level == "error")`
// do. It reads nothing but the record: neither environment nor files nor other records. It is safe for concurrent use.
type Filter struct {
	code *gojq.Code
	text string
}

// NewFilter compiles an expression.
func NewFilter(expression string) (*Filter, error) {
	if len(expression) > MaxExpression {
		return nil, fmt.Errorf("read jq expression: it has %d bytes, at most %d are read", len(expression), MaxExpression)
	}
	query, err := gojq.Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("read jq expression %.200q: %w", expression, err)
	}
	// Without loaders there are no modules, and $ENV and env are empty; without an iterator input and inputs fail.
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, fmt.Errorf("read jq expression %.200q: %w", expression, err)
	}
	return &Filter{code, expression}, nil
}

// String is the expression.
func (f *Filter) String() string { return f.text }

// Selects reports whether the expression selects a message.
func (f *Filter) Selects(ctx context.Context, m *message.Message) (bool, error) {
	value, err := recordOf(m)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, filterTime, fmt.Errorf("it takes longer than %v", filterTime))
	defer cancel()
	output, ok := f.code.RunWithContext(ctx, value).Next()
	switch output := output.(type) {
	case error:
		if halt := (*gojq.HaltError)(nil); errors.As(output, &halt) && halt.Value() == nil {
			return false, nil // halt, as no output at all
		}
		if ctx.Err() != nil {
			output = context.Cause(ctx)
		}
		return false, fmt.Errorf("jq expression: %w", output)
	case nil:
		return false, nil
	case bool:
		return ok && output, nil
	}
	return ok, nil
}

// selects is Selects for a message of a blob, which an error names. A filter that is nil selects all.
func (f *Filter) selects(ctx context.Context, b *selection.Blob, m *message.Message) (bool, error) {
	if f == nil {
		return true, nil
	}
	selected, err := f.Selects(ctx, m)
	if err != nil {
		err = fmt.Errorf("blob %s: record with sequence number %d: %w", b.Name, m.SequenceNumber, err)
	}
	return selected, err
}

// recordOf is a message's record as jq takes it.
func recordOf(m *message.Message) (any, error) {
	text := record.Format{Metadata: true, Separator: record.OneNewline}.Append(nil, m)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("read record as JSON: %w", err)
	}
	return withNumbers(value), nil
}

// withNumbers replaces the numbers in a value by those that jq knows, without a loss: a whole number of any size stays
// one.
func withNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			return n
		}
		f, _ := v.Float64() // of what is too large: the infinity
		return f
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = withNumbers(v[key])
		}
	}
	return value
}
