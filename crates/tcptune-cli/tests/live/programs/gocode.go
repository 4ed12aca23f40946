// A Go program: it makes its own system calls. Connects to itself, and prints what its own getsockopt says.
package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"syscall"
	"time"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	dialer := net.Dialer{KeepAlive: 44 * time.Second}
	connection, err := dialer.Dial("tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	raw, err := connection.(*net.TCPConn).SyscallConn()
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for {
		values := map[string]int{}
		raw.Control(func(fd uintptr) {
			get := func(name string, level int, option int) {
				values[name], _ = syscall.GetsockoptInt(int(fd), level, option)
			}
			values["fd"] = int(fd)
			get("keepidle", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
			get("keepintvl", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL)
			get("keepcnt", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
			get("user_timeout", syscall.IPPROTO_TCP, 18)
			get("syncnt", syscall.IPPROTO_TCP, syscall.TCP_SYNCNT)
			get("sndbuf", syscall.SOL_SOCKET, syscall.SO_SNDBUF)
			get("rcvbuf", syscall.SOL_SOCKET, syscall.SO_RCVBUF)
			get("nodelay", syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
		})
		json.NewEncoder(os.Stdout).Encode(values)
		if !lines.Scan() {
			return
		}
	}
}
