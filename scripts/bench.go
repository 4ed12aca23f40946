// A server and a client of HTTP on loopback, for scripts/bench: prints the microseconds of a request, of the quickest
// quarter of some rounds. "keepalive" has one connection, "connections" a new one for each request. "nginx COMMAND..." has
// one connection to nginx, which makes a new one to the server for each request; COMMAND begins its command line.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

const rounds, requests = 8, 100

func check(err error) {
	if err != nil {
		panic(err)
	}
}

const configuration = `daemon off; master_process off; pid pid; error_log stderr crit; events {}
http {
    access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
    server { listen %s; keepalive_requests 1000000; location / { proxy_pass http://%s; } }
}
`

// Starts nginx before the server, and gives its address; stop ends it.
func nginx(command []string, server string) (address string, stop func()) {
	directory, err := os.MkdirTemp("", "bench-nginx-")
	check(err)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	address = free.Addr().String()
	free.Close()
	file := filepath.Join(directory, "nginx.conf")
	check(os.WriteFile(file, []byte(fmt.Sprintf(configuration, address, server)), 0o600))
	words := append(command[1:], "-p", directory, "-c", file)
	child := exec.Command(command[0], words...)
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(child.Start())
	for try := 0; ; try++ {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			break
		}
		if try == 500 {
			panic("nginx does not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", child.Process.Pid))
	check(err)
	if !strings.Contains(string(maps), os.Getenv("LD_PRELOAD")) {
		panic("the library is not in nginx")
	}
	return address, func() {
		child.Process.Kill()
		child.Wait()
		os.RemoveAll(directory)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	address := listener.Addr().String()
	if os.Args[1] == "nginx" {
		var stop func()
		address, stop = nginx(os.Args[2:], address)
		defer stop()
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	transport := &http.Transport{DisableKeepAlives: os.Args[1] == "connections"}
	client := &http.Client{Transport: transport}
	times := []float64{}
	for round := 0; round <= rounds; round++ { // the first one warms up
		start := time.Now()
		for i := 0; i < requests; i++ {
			response, err := client.Get("http://" + address)
			check(err)
			if response.StatusCode != http.StatusOK {
				panic(response.Status)
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
