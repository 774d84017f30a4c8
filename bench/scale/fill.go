package main

import (
	"context"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store/storetest/sqlitefill"
)

// fill makes a store of n credentials and returns the keys of some of them.
func fill(ctx context.Context, path string, n, some int) (keys []string, err error) {
	every := max(n/some, 1)
	err = sqlitefill.Fill(ctx, path, "billing", n, func(i int) (string, [32]byte) {
		key := credential.Generate()
		if i%every == 0 && len(keys) < some {
			keys = append(keys, key.Reveal())
		}
		return key.ID(), key.Hash()
	})
	return keys, err
}
