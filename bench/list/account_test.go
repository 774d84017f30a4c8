package main

import (
	"bytes"
	"testing"

	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/tokens"
)

func TestFillPutsTheOwnAmongOthers(t *testing.T) {
	const n = 100
	for _, shape := range shapes {
		api := simulator.New(simulator.Options{})
		own := map[string]bool{api.Plant("one"): true, api.Plant("two"): true, api.Plant("three"): true}
		a, err := fill(t.Context(), api, own, n)
		if err != nil {
			t.Fatal(err)
		}
		body := shape.wrap(a.all)
		list, err := shape.unwrap(body)
		if err != nil || len(list) != n {
			t.Fatalf("%s: %d tokens, %v", shape.name, len(list), err)
		}
		kept, err := tokens.List(bytes.NewReader(body), func(id []byte) bool { return own[string(id)] })
		if err != nil {
			t.Fatal(err)
		}
		c := &caller{own: own}
		if err := c.check(shape, kept); err != nil {
			t.Error(err)
		}
		for what, answer := range map[string][]byte{
			"everyone's":  body,
			"fewer":       shape.wrap([]byte(`{"id":"` + idOf(list[0]) + `"}`)),
			"none":        shape.wrap(nil),
			"one thrice":  shape.wrap([]byte(`{"id":"` + idOf(list[0]) + `"},{"id":"` + idOf(list[0]) + `"},{"id":"` + idOf(list[0]) + `"}`)),
			"cut":         kept[:len(kept)-1],
			"not wrapped": []byte(`{"tokens":[]}`),
		} {
			if c.check(shape, answer) == nil {
				t.Errorf("%s: %s passes", shape.name, what)
			}
		}
	}
}

func TestFillRejectsTokensThatUpstreamDoesNotHave(t *testing.T) {
	if _, err := fill(t.Context(), simulator.New(simulator.Options{}), map[string]bool{"3f0c6a52-8d1e-4b7a-9c55-000000000000": true}, 10); err == nil {
		t.Error("a token that is not there was taken over")
	}
}
