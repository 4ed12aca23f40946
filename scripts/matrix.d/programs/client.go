package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	_, err := http.Get("http://" + os.Args[1] + "/")
	fmt.Println(err)
}
