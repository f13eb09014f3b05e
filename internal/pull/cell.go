package pull

import "context"

// cell stores a part of a partition's chain, beside others that store the parts before and behind it. It writes no
// checkpoint: one that moves over what others have not stored yet would lose it.
type cell struct {
	*chain
	reading *partitionReader
}

// finish implements [keeper]: where the source holds nothing more up to the cell's end, it finds out what others have
// stored of the rest, and what is lost.
func (c *cell) finish(ctx context.Context) error {
	if c.reading.behind == nil || c.after >= c.limit {
		return nil
	}
	if err := c.look(ctx, sampleOf(*c.reading.behind)); err != nil {
		return err
	}
	if c.after < c.limit {
		c.after, c.offset = c.limit, ""
	}
	c.tell()
	return nil
}
