package emulator

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// equalKind compares two values of one kind for equality; it is not ok for values of different kinds, or of none.
func equalKind(a, b any) (equal, ok bool) {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return a == b, ok
	case bool:
		b, ok := b.(bool)
		return a == b, ok
	case int64:
		b, ok := b.(int64)
		return a == b, ok
	case float64:
		b, ok := b.(float64)
		return a == b, ok
	case time.Time:
		b, ok := b.(time.Time)
		return a.Equal(b), ok
	}
	return false, false
}

// compare applies a comparison to two values, nil if it is not known. An integer becomes a floating-point number beside
// one; booleans are equal or not, neither less nor more.
func compare(operator string, a, b any) any {
	a, b = ruleValue(a), ruleValue(b)
	if _, isBool := a.(bool); isBool && operator != "=" && operator != "<>" {
		return nil
	}
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return relate(operator, a, b)
		}
	case int64:
		switch b := b.(type) {
		case int64:
			return relate(operator, a, b)
		case float64:
			return relate(operator, float64(a), b)
		}
	case float64:
		switch b := b.(type) {
		case int64:
			return relate(operator, a, float64(b))
		case float64:
			return relate(operator, a, b)
		}
	case time.Time:
		if b, ok := b.(time.Time); ok {
			return relate(operator, a.Compare(b), 0)
		}
	case time.Duration:
		if b, ok := b.(time.Duration); ok {
			return relate(operator, a, b)
		}
	case bool:
		if b, ok := b.(bool); ok {
			return (a == b) == (operator == "=")
		}
	}
	return nil
}

func relate[T cmp.Ordered](operator string, a, b T) bool {
	switch operator {
	case "=":
		return a == b
	case "<>":
		return a != b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	default:
		return a >= b
	}
}

// calculate applies an operator of arithmetic to two values, nil if the result is not known: of values that do not go
// together, of a division of integers by zero, and of an integer that would need more than 64 bits.
func calculate(operator byte, a, b any) any {
	a, b = ruleValue(a), ruleValue(b)
	switch x := a.(type) {
	case int64:
		switch y := b.(type) {
		case int64:
			return calculateIntegers(operator, x, y)
		case float64:
			return calculateFloats(operator, float64(x), y)
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return calculateFloats(operator, x, float64(y))
		case float64:
			return calculateFloats(operator, x, y)
		}
	case time.Time:
		switch y := b.(type) {
		case time.Time:
			if operator == '-' {
				return x.Sub(y)
			}
		case time.Duration:
			switch operator {
			case '+':
				return x.Add(y)
			case '-':
				return x.Add(-y)
			}
		}
	case time.Duration:
		if y, ok := b.(time.Duration); ok {
			if n, ok := calculateIntegers(operator, int64(x), int64(y)).(int64); ok && (operator == '+' || operator == '-') {
				return time.Duration(n)
			}
		}
	}
	return nil
}

func calculateIntegers(operator byte, x, y int64) any {
	switch operator {
	case '+':
		if sum := x + y; (sum > x) == (y > 0) {
			return sum
		}
	case '-':
		if difference := x - y; (difference < x) == (y > 0) {
			return difference
		}
	case '*':
		if x == 0 || y == 0 {
			return int64(0)
		}
		if product := x * y; product/y == x && !(x == -1 && y == math.MinInt64) && !(y == -1 && x == math.MinInt64) {
			return product
		}
	case '/':
		if y != 0 && !(x == math.MinInt64 && y == -1) {
			return x / y
		}
	case '%':
		if y != 0 {
			return x % y
		}
	}
	return nil
}

func calculateFloats(operator byte, x, y float64) any {
	switch operator {
	case '+':
		return x + y
	case '-':
		return x - y
	case '*':
		return x * y
	case '/':
		return x / y
	default:
		return math.Mod(x, y)
	}
}

// maxLikeText bounds the bytes of a text that LIKE looks at, for it can look at each as often as the pattern is long.
// The service allows a message's properties no more than that altogether.
const maxLikeText = 64 << 10

// likePattern is a pattern taken apart: a rune stands for itself, and the two wildcards for what they match.
type likePattern []rune

const (
	likeMany rune = -1 - iota // any number of characters
	likeOne                   // one character
)

func parseLike(pattern string, escape rune, escaped bool) likePattern {
	var p likePattern
	literal := false
	for _, r := range pattern {
		switch {
		case literal:
			p, literal = append(p, r), false
		case escaped && r == escape:
			literal = true
		case r == '%':
			p = append(p, likeMany)
		case r == '_':
			p = append(p, likeOne)
		default:
			p = append(p, r)
		}
	}
	if literal { // nothing follows the escape character: it stands for itself
		p = append(p, escape)
	}
	return p
}

// matches reports whether the pattern matches the whole text. When characters after a wildcard for many do not match,
// only the last one needs to take more, so the time is at most the product of the lengths.
func (p likePattern) matches(text string) bool {
	runes := []rune(text)
	at, retry, retryFrom := 0, -1, 0
	for i := 0; i < len(runes); {
		switch {
		case at < len(p) && p[at] == likeMany:
			retry, retryFrom = at, i
			at++
		case at < len(p) && (p[at] == likeOne || p[at] == runes[i]):
			at++
			i++
		case retry >= 0:
			retryFrom++
			at, i = retry+1, retryFrom
		default:
			return false
		}
	}
	return !slices.ContainsFunc(p[at:], func(r rune) bool { return r != likeMany })
}
