package hosttest

import (
	"fmt"
	"math"
	"time"
)

// retryJSON is a retry policy in function.json.
type retryJSON struct {
	Strategy                                        string
	MaxRetryCount                                   *int
	DelayInterval, MinimumInterval, MaximumInterval *string
}

// retry is a policy. The wait before the n-th retry is between least and most.
type retry struct {
	count       int // -1 is without end
	least, most time.Duration
}

func (r *retryJSON) policy() (*retry, error) {
	if r == nil {
		return nil, nil
	}
	if r.MaxRetryCount == nil || *r.MaxRetryCount < -1 {
		return nil, fmt.Errorf("retry: maxRetryCount is missing or below -1")
	}
	p := &retry{count: *r.MaxRetryCount}
	var err error
	switch {
	case r.Strategy == "fixedDelay" && r.DelayInterval != nil:
		err = timeSpan(r.DelayInterval, &p.least)
		p.most = p.least
	case r.Strategy == "exponentialBackoff" && r.MinimumInterval != nil && r.MaximumInterval != nil:
		if err = timeSpan(r.MinimumInterval, &p.least); err == nil {
			err = timeSpan(r.MaximumInterval, &p.most)
		}
		if err == nil && p.most < p.least {
			err = fmt.Errorf("minimumInterval is above maximumInterval")
		}
	default:
		err = fmt.Errorf("strategy is %q: want fixedDelay with delayInterval, or exponentialBackoff with minimumInterval and maximumInterval", r.Strategy)
	}
	if err != nil {
		return nil, fmt.Errorf("retry: %w", err)
	}
	return p, nil
}

// wait is the time before the n-th retry, from 1 on.
func (r *retry) wait(n int) time.Duration {
	wait := float64(r.least) * math.Pow(2, float64(n-1))
	return time.Duration(min(wait, float64(r.most)))
}
