package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/storetest/sqlitefill"
)

// The first two teams make tokens of their own: what one lists must not grow by
// what the other makes and deletes. All tokens that are there before belong to
// the others.
const (
	lister = iota
	minter
	others

	leastTeams = others + 1
)

func team(i int) string { return fmt.Sprintf("team-%d", i) }

// configured are the lines of a configuration with this many teams. The limits
// are there to be counted, not to be met.
func configured(teams int) string {
	var b strings.Builder
	b.WriteString("store sqlite {$DIR}/store.db\n\t\treconcile off\n")
	for i := range teams {
		fmt.Fprintf(&b, `		team %s {
			scopes token.* members.* groups.* devices.* systems.* access-cards.* system-groups.* system-logs.read gateways.read *.read-all
			mint {
				scopes members.read-all
				allowed_ips 198.51.100.0/24
				max_ttl 30d
				max_live 1000
			}
			allowed_ips 127.0.0.0/8 10.0.0.0/8
			rate_limit 6000000 1m
			max_in_flight 1000
			credential_rate_limit 600000 1m
			credential ci {
				hash %s
				rate_limit 60000 1m
			}
		}
`, team(i), credential.Generate().Verifier())
	}
	return b.String()
}

// fill makes a store of n credentials of these teams in turns, and of as many
// tokens, each of a credential of its own as far as there are enough. It
// returns the credentials' keys.
func fill(ctx context.Context, path string, n, teams int) (keys []string, err error) {
	ids := make([]string, 0, n)
	err = sqlitefill.Fill(ctx, path, n, func(i int) (string, string, [32]byte) {
		key := credential.Generate()
		keys, ids = append(keys, key.Reveal()), append(ids, key.ID())
		return team(i % teams), key.ID(), key.Hash()
	})
	if err != nil {
		return nil, err
	}
	ends := time.Now().AddDate(0, 0, 20).UTC()
	err = sqlitefill.FillTokens(ctx, path, n, func(i int) store.Token {
		owner, turn := others+i%(teams-others), i/(teams-others)
		return store.Token{
			Nonce: fmt.Sprintf("nonce%015d", i), ID: fmt.Sprintf("3f0c6a52-8d1e-4b7a-9c55-%012x", i),
			Team: team(owner), Credential: ids[(turn*teams+owner)%(n/teams*teams)], State: store.TokenLive,
			Name: fmt.Sprintf("nightly export %d", i), ExpiresAt: ends.Format(time.DateTime), Expires: ends, Due: ends.Add(time.Hour),
		}
	})
	return keys, err
}
