package emulator

import "testing"

// The vectors are those that the clients' own partition resolvers are tested with.
var keyHashVectors = []struct {
	key  string
	hash int16
}{
	{"", 0},
	{"7", -15263},
	{"131", 30562},
	{"7149583486996073602", 12977},
	{"FWfAT", -22341},
	{"sOdeEAsyQoEuEFPGerWO", -6503},
	{"!c*_!I@1^c", 15372},
	{"$0cb", 26269},
	{"p4*!jioeO/z-!-;w:dh", -3104},
	{"-4189260826195535198", 453},
	// Whole blocks of 12 bytes, which none of the above ends in; computed with a second implementation.
	{"twelve bytes", 6222},
	{"twenty-four bytes of key", -20633},
}

func TestPartitionKeyHash(t *testing.T) {
	for _, v := range keyHashVectors {
		if got := partitionKeyHash(v.key); got != v.hash {
			t.Errorf("partitionKeyHash(%q) = %d, want %d", v.key, got, v.hash)
		}
	}
}

func TestPartitionForKey(t *testing.T) {
	for _, c := range []struct {
		key              string
		partitions, want int
	}{
		{"7", 4, 3},   // -15263 % 4 = -3
		{"7", 32, 31}, // -15263 % 32 = -31
		{"7", 1, 0},
		{"131", 4, 2},
		{"", 32, 0},
	} {
		if got := partitionForKey(c.key, c.partitions); got != c.want {
			t.Errorf("partitionForKey(%q, %d) = %d, want %d", c.key, c.partitions, got, c.want)
		}
	}
}
