package pull

import "testing"

// Batches are appended to the blob that the chain goes on in, also where that was found further on: so does whoever
// has stored it, and both ask for the same place.
func TestChainAppendsToWhatItFoundAhead(t *testing.T) {
	f := newFolder(t)
	for _, numbers := range [][2]int64{{0, 9}, {20, 29}, {10, 39}} {
		if err := write(newChain(f, &partition{}, numbers[0]-1, Joined), numbers[0], numbers[1], 5, never); err != nil {
			t.Fatal(err)
		}
	}
	if spans := check(t, f, 0, 39); len(spans) != 2 || spans[0].Last != 19 || spans[1].Last != 39 {
		t.Errorf("%+v", spans)
	}
}
