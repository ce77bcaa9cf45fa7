// Lists tasks and makes one with an API key. Needs BASE_URL, CA_FILE and API_KEY.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func client() *http.Client {
	pem, err := os.ReadFile(os.Getenv("CA_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("CA_FILE holds no certificate")
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func call(client *http.Client, method, path string, body []byte) []byte {
	request, err := http.NewRequest(method, os.Getenv("BASE_URL")+path, bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("API_KEY"))
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		log.Fatal(response.Status, " ", string(answer), err)
	}
	return answer
}

func main() {
	client := client()
	call(client, "GET", "/v1/tasks?limit=5", nil)
	fmt.Println("listed")
	fmt.Println(string(call(client, "POST", "/v1/tasks", []byte(`{"title":"From Go"}`))))
}
