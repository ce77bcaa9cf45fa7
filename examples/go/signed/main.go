// Lists tasks and makes one with signed requests (RFC 9421). Needs BASE_URL, CA_FILE, KEY_ID and SECRET.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
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

// sign adds the two headers that sign a request, over the fields named as well.
func sign(request *http.Request, fields ...string) {
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("SECRET"))
	if err != nil {
		log.Fatal("SECRET is no base64")
	}
	path := request.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	authority := strings.TrimSuffix(strings.ToLower(request.URL.Host), ":443")
	covered := [][2]string{
		{"@method", request.Method},
		{"@authority", authority},
		{"@path", path},
		{"@query", "?" + request.URL.RawQuery},
	}
	for _, name := range fields {
		covered = append(covered, [2]string{strings.ToLower(name), request.Header.Get(name)})
	}
	names, base := make([]string, len(covered)), ""
	for number, component := range covered {
		names[number] = `"` + component[0] + `"`
		base += fmt.Sprintf("\"%s\": %s\n", component[0], component[1])
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		log.Fatal(err)
	}
	terms := fmt.Sprintf(`(%s);created=%d;nonce="%s";keyid="%s";alg="hmac-sha256"`,
		strings.Join(names, " "), time.Now().Unix(), hex.EncodeToString(nonce), os.Getenv("KEY_ID"))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(base + `"@signature-params": ` + terms))
	request.Header.Set("Signature-Input", "sig1="+terms)
	request.Header.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
}

func call(client *http.Client, method, path string, body []byte) []byte {
	request, err := http.NewRequest(method, os.Getenv("BASE_URL")+path, bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	if len(body) > 0 {
		digest := sha256.Sum256(body)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":")
		sign(request, "Content-Digest", "Content-Type")
	} else {
		sign(request)
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
	fmt.Println(string(call(client, "POST", "/v1/tasks", []byte(`{"title":"From a signed Go"}`))))
}
