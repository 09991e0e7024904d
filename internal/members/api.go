package members

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// pageSize is how many pods are asked for at once: kubectl does so, too.
	pageSize = 500
	// maxPage bounds the octets of a page. An object of the API has 1.5 MiB at most,
	// and a pod seldom more than 20 KiB.
	maxPage = 64 << 20
	// maxRefusal bounds what is read of an answer that says no.
	maxRefusal = 64 << 10
	// maxCredential bounds the files of a service account.
	maxCredential = 1 << 20
	// listTries is how often a list is begun anew that became too old while it was
	// read.
	listTries = 3
)

// accountDirectory is where a pod has the credentials of its service account.
const accountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"

// API is the API of a Kubernetes cluster.
type API struct {
	URL       string // of the API server; empty: that of the cluster that this is a pod of
	TokenFile string // empty: that of the service account of the pod
	CAFile    string // likewise
	Namespace string // empty: that of the pod
	Selector  string // of labels, as kubectl has it; empty: all pods
}

// Pods returns the pods of the namespace that the selector selects.
func (a API) Pods(ctx context.Context) ([]Pod, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer c.http.CloseIdleConnections()
	for range listTries {
		pods, err := c.list(ctx)
		if !errors.Is(err, errExpired) {
			return pods, err
		}
	}
	return nil, errExpired
}

// errExpired is of a list of which the API server has forgotten the rest.
var errExpired = errors.New("the list of pods became too old while it was read")

// client asks one API server for one list.
type client struct {
	http    *http.Client
	address *url.URL
	token   string
}

// connect returns a client. The token is read anew each time: the kubelet replaces
// it.
func (a API) connect() (*client, error) {
	address, err := a.address()
	if err != nil {
		return nil, err
	}
	namespace := a.Namespace
	if namespace == "" {
		if namespace, err = credential(filepath.Join(accountDirectory, "namespace")); err != nil {
			return nil, fmt.Errorf("the namespace, which is not given: %w", err)
		}
	}
	if strings.ContainsAny(namespace, "/?#%") {
		return nil, fmt.Errorf("found the namespace %q; expected a name", namespace)
	}
	address = address.JoinPath("/api/v1/namespaces", namespace, "pods")
	token, err := credential(orElse(a.TokenFile, filepath.Join(accountDirectory, "token")))
	if err != nil {
		return nil, fmt.Errorf("the token for the API server: %w", err)
	}
	caFile := orElse(a.CAFile, filepath.Join(accountDirectory, "ca.crt"))
	ca, err := credential(caFile)
	if err != nil {
		return nil, fmt.Errorf("the authority of the API server: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, fmt.Errorf("the authority of the API server: %s has no certificate", caFile)
	}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if a.Selector != "" {
		query.Set("labelSelector", a.Selector)
	}
	address.RawQuery = query.Encode()
	return &client{
		http: &http.Client{
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
			// The token is for this server, and nobody it names.
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("found a redirection; expected an answer")
			},
		},
		address: address, token: token,
	}, nil
}

// address returns the API server's.
func (a API) address() (*url.URL, error) {
	text := a.URL
	if text == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("this is no pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set), and no API server is given")
		}
		text = "https://" + net.JoinHostPort(host, port)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("found the API server %q; expected https://HOST:PORT", text)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// credential reads a small file.
func credential(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err == nil && len(text) > maxCredential {
		err = fmt.Errorf("%s: found more than %d octets", file, maxCredential)
	}
	return strings.TrimSpace(string(text)), err
}

// list reads all pages of the list.
func (c *client) list(ctx context.Context) (pods []Pod, err error) {
	for next := ""; ; {
		page, err := c.page(ctx, next)
		if err != nil {
			return nil, fmt.Errorf("GET %s://%s%s: %w", c.address.Scheme, c.address.Host, c.address.Path, err)
		}
		pods = append(pods, page.Items...)
		switch {
		case len(pods) > maxPods:
			return nil, fmt.Errorf("found more than %d pods: select fewer", maxPods)
		case page.Metadata.Continue == "":
			return pods, nil
		case page.Metadata.Continue == next || len(page.Items) == 0:
			return nil, errors.New("found a list of pods that does not come to an end")
		}
		next = page.Metadata.Continue
	}
}

// page reads one page: the first, or that which another one has named.
func (c *client) page(ctx context.Context, next string) (list podList, err error) {
	u := *c.address
	if next != "" {
		q := u.Query()
		q.Set("continue", next)
		u.RawQuery = q.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return list, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the address is said already, and here it would have the query
		}
		return list, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return list, refusal(response)
	}
	return decode(response.Body, maxPage)
}

// refusal returns the error that an answer is (metav1.Status).
func refusal(r *http.Response) error {
	if r.StatusCode == http.StatusGone {
		return errExpired
	}
	var status struct{ Message string }
	text, _ := io.ReadAll(io.LimitReader(r.Body, maxRefusal)) // what can be read of it is said
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		return fmt.Errorf("%s: %s", r.Status, status.Message)
	}
	return errors.New(r.Status)
}

// Timeout is how long it may take to list the pods, by default.
const Timeout = 30 * time.Second
