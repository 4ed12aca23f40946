// A Go program: it makes its own system calls, and sets keepalive itself after each connect and accept. Serves, or
// connects to the address it is given, and prints how it went.
package main

import (
	"encoding/json"
	"net"
	"os"
	"syscall"
	"time"
)

func show(connection net.Conn, values map[string]any) {
	if raw, err := connection.(*net.TCPConn).SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			get := func(name string, level int, option int) {
				values[name], _ = syscall.GetsockoptInt(int(fd), level, option)
			}
			get("keepidle", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
			get("keepcnt", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
			get("user_timeout", syscall.IPPROTO_TCP, 18)
		})
	}
	json.NewEncoder(os.Stdout).Encode(values)
}

func main() {
	if os.Args[1] == "serve" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		json.NewEncoder(os.Stdout).Encode(listener.Addr().(*net.TCPAddr).Port)
		for {
			connection, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			show(connection, map[string]any{})
		}
	}
	begun := time.Now()
	connection, err := net.Dial("tcp", os.Args[1])
	values := map[string]any{"ms": time.Since(begun).Milliseconds()}
	if err != nil {
		values["error"] = err.Error()
		json.NewEncoder(os.Stdout).Encode(values)
		return
	}
	show(connection, values)
}
