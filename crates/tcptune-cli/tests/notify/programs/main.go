// A program of Go: a server and a client of its own, with TLS or without. It prints the idle time of keepalive of the
// client's socket and of the accepted one; Go sets its own on both.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"syscall"
	"time"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func idle(connection net.Conn) int {
	raw := must(connection.(*net.TCPConn).SyscallConn())
	value := -1
	raw.Control(func(fd uintptr) { value, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE) })
	return value
}

func certificate() tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	return tls.Certificate{
		Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))},
		PrivateKey:  key,
	}
}

func main() {
	if os.Args[1] == "dial" { // to where nobody answers
		start := time.Now()
		_, err := net.Dial("tcp", os.Args[2])
		fmt.Println(time.Since(start).Milliseconds(), err)
		return
	}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	accepted := make(chan int)
	go func() {
		connection := must(listener.Accept())
		accepted <- idle(connection)
		stream := connection
		if os.Args[1] == "tls" {
			stream = tls.Server(connection, &tls.Config{Certificates: []tls.Certificate{certificate()}})
		}
		io.WriteString(stream, "hello")
		stream.Close()
	}()
	connection := must(net.Dial("tcp", listener.Addr().String()))
	stream := connection
	if os.Args[1] == "tls" {
		stream = tls.Client(connection, &tls.Config{InsecureSkipVerify: true})
	}
	fmt.Println(idle(connection), <-accepted, string(must(io.ReadAll(stream))))
}
