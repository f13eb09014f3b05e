package emulator

import (
	"encoding/binary"
	"math/bits"
)

// partitionForKey is the partition, from 0 below partitions, that events with this partition key go
// to, so that events of one key stay in order. It panics when partitions is not positive.
//
// The clients' buffered producers compute the same number to mirror the service: the int16 hash
// modulo the count, the remainder keeping its sign until it is made positive.
func partitionForKey(key string, partitions int) int {
	p := int(partitionKeyHash(key)) % partitions
	return max(p, -p)
}

// partitionKeyHash is Bob Jenkins's lookup3 (hashlittle2 with both seeds 0) over the key's UTF-8
// bytes, its two words folded into one and cut to 16 bits. The empty key hashes to 0.
func partitionKeyHash(key string) int16 {
	if key == "" {
		return 0
	}
	_, b, c := lookup3([]byte(key))
	return int16(b ^ c) // cutting to 16 bits is part of the hash
}

func lookup3(k []byte) (a, b, c uint32) {
	a = 0xdeadbeef + uint32(len(k))
	b, c = a, a
	for len(k) > 12 {
		a += binary.LittleEndian.Uint32(k)
		b += binary.LittleEndian.Uint32(k[4:])
		c += binary.LittleEndian.Uint32(k[8:])
		a, b, c = mix(a, b, c)
		k = k[12:]
	}
	// The last 1 to 12 bytes, filled up with zeros, and no mix but the final one.
	var last [12]byte
	copy(last[:], k)
	a += binary.LittleEndian.Uint32(last[0:])
	b += binary.LittleEndian.Uint32(last[4:])
	c += binary.LittleEndian.Uint32(last[8:])
	return finish(a, b, c)
}

// mix and finish are lookup3's own, with its rotation distances.

func mix(a, b, c uint32) (uint32, uint32, uint32) {
	a, c = (a-c)^bits.RotateLeft32(c, 4), c+b
	b, a = (b-a)^bits.RotateLeft32(a, 6), a+c
	c, b = (c-b)^bits.RotateLeft32(b, 8), b+a
	a, c = (a-c)^bits.RotateLeft32(c, 16), c+b
	b, a = (b-a)^bits.RotateLeft32(a, 19), a+c
	c, b = (c-b)^bits.RotateLeft32(b, 4), b+a
	return a, b, c
}

func finish(a, b, c uint32) (uint32, uint32, uint32) {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return a, b, c
}
