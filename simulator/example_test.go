package simulator_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/scopegate/scopegate/simulator"
)

func get(url, token string) (status string) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "no answer"
	}
	_ = resp.Body.Close()
	return resp.Status
}

func Example() {
	sim := simulator.New(simulator.Options{})
	upstream := httptest.NewServer(sim)
	defer upstream.Close()

	url := upstream.URL + "/api/v1/member/" + simulator.MemberID
	fmt.Println(get(url, sim.Master()))
	fmt.Println(get(url, "a-wrong-token"))
	for _, seen := range sim.Requests() {
		fmt.Println(seen.Number, seen.Operation, seen.Method)
	}
	// Output:
	// 200 OK
	// 401 Unauthorized
	// 1 getMember GET
	// 2 getMember GET
}

func ExampleSimulator_Fail() {
	sim := simulator.New(simulator.Options{})
	upstream := httptest.NewServer(sim)
	defer upstream.Close()

	heal := sim.Fail(simulator.Fault{Operation: "listMembers", Effect: simulator.Status(503, nil)})
	fmt.Println(get(upstream.URL+"/api/v1/members", sim.Master()))
	heal()
	fmt.Println(get(upstream.URL+"/api/v1/members", sim.Master()))
	// Output:
	// 503 Service Unavailable
	// 200 OK
}
