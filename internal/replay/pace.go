package replay

import (
	"context"
	"math"

	"golang.org/x/time/rate"
)

// pace keeps to a number of messages a second.
type pace struct {
	limiter *rate.Limiter
	// batch is how many messages a batch may have, 0 for any number: so many that at least five are sent each second.
	batch int
}

// newPace makes one for so many messages a second; 0 is no limit.
func newPace(messages float64) *pace {
	if messages <= 0 {
		return &pace{}
	}
	batch := int(min(max(messages/5, 1), math.MaxInt32))
	return &pace{limiter: rate.NewLimiter(rate.Limit(messages), batch), batch: batch}
}

// wait waits until so many messages, a batch at most, may be sent.
func (p *pace) wait(ctx context.Context, messages int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.limiter == nil {
		return nil
	}
	if err := p.limiter.WaitN(ctx, messages); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err // ctx would end before it is time
	}
	return nil
}
