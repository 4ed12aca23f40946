// A server and a client of HTTP on loopback, for scripts/bench: prints the microseconds of a request, of the quickest
// quarter of some rounds. "keepalive" has one connection, "connections" a new one for each request.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
	"time"
)

const rounds, requests = 8, 100

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	transport := &http.Transport{DisableKeepAlives: os.Args[1] == "connections"}
	client := &http.Client{Transport: transport}
	times := []float64{}
	for round := 0; round <= rounds; round++ { // the first one warms up
		start := time.Now()
		for i := 0; i < requests; i++ {
			response, err := client.Get("http://" + listener.Addr().String())
			if err != nil {
				panic(err)
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		if round > 0 {
			times = append(times, float64(time.Since(start).Microseconds())/requests)
		}
	}
	sort.Float64s(times)
	fmt.Printf("%f\n", times[rounds/4])
}
