// Command winclient asks for a URL through a proxy, as a program of a Windows
// user would, and prints the status of the answer.
package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
)

func main() {
	proxy, err := url.Parse(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	resp, err := client.Get(os.Args[2])
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
}
