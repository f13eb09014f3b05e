package host

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"
)

// BenchmarkByteArrays takes batches apart, from the body of the call to the messages.
func BenchmarkByteArrays(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("100 of %d KiB", size>>10), func(b *testing.B) {
			bodies := make([][]byte, 100)
			for n := range bodies {
				bodies[n] = make([]byte, size)
				_, _ = rand.Read(bodies[n])
			}
			once, _ := json.Marshal(bodies)
			body, err := encode(map[string]any{"Data": map[string]string{"messages": string(once)}})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				i, err := decode(body)
				if err != nil {
					b.Fatal(err)
				}
				_, p, _ := i.Payload()
				got, err := p.ByteArrays()
				if err != nil || !bytes.Equal(got[99], bodies[99]) {
					b.Fatal(err)
				}
			}
		})
	}
}
