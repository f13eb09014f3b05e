package store

// LimitBlocks has a store take no more than n Appends to a blob.
func LimitBlocks(s Store, n int) {
	switch s := s.(type) {
	case *Azure:
		s.maxBlocks = int32(n)
	case *Dir:
		s.maxBlocks = n
	}
}
