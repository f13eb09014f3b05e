package emulator

import (
	"encoding/xml"
	"errors"
	"net/http"
	"strings"
)

// AdminHandler serves what the administration clients of Service Bus read of a namespace over HTTP: its own properties,
// and those of queues, topics and subscriptions, with the counts of their messages.
//
//	GET /$namespaceinfo
//	GET /<queue or topic>
//	GET /<topic>/Subscriptions/<subscription>
//
// A request needs a token of a key with the right to manage; what is not there is answered with an empty feed, as the
// service does. The clients insist on HTTPS and on the host of the connection string, so a test gives them a transport
// that comes here.
//
// Left out: whatever changes the namespace (405), and lists and rules (501).
func (e *Emulator) AdminHandler() http.Handler { return &adminHandler{e} }

type adminHandler struct{ e *Emulator }

// ServeHTTP implements [http.Handler].
func (h *adminHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refusal := h.authorize(r); refusal != "" {
		h.e.log.Debug("administration refused", "path", r.URL.Path, "reason", refusal)
		h.refuse(w, http.StatusUnauthorized, refusal)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		h.refuse(w, http.StatusMethodNotAllowed, "The emulator's entities can't be changed: they are what it was started with.")
		return
	}
	path := strings.ToLower(strings.Trim(r.URL.Path, "/"))
	q := h.e.queues[path]
	switch {
	case path == "$namespaceinfo":
		h.answer(w, r, h.e.Address(), h.namespace())
	case q != nil && q.topic != nil:
		h.answer(w, r, q.Name, h.topic(q))
	case q != nil && q.rules != nil:
		h.answer(w, r, q.Name, h.subscription(q))
	case q != nil && q.deadLetter != nil: // a dead-letter queue has none
		h.answer(w, r, q.Name, h.queue(q))
	case strings.HasPrefix(path, "$resources/") || strings.HasSuffix(path, "/subscriptions") || strings.Contains(path, "/rules"):
		h.refuse(w, http.StatusNotImplemented, "The emulator has no lists and no rules over HTTP. Rules are read and changed by AMQP.")
	default:
		h.write(w, http.StatusOK, atomType, emptyFeed{
			Title: "Publicly Listed Services", ID: "https://" + r.Host + r.URL.RequestURI(), Updated: atomTime(h.e.now()),
		})
	}
}

// authorize returns why a request is refused, empty if it is not. Clients sign the whole address with its query, or a
// part of it.
func (h *adminHandler) authorize(r *http.Request) string {
	token := r.Header.Get("Authorization")
	if h.e.options.AllowAnyToken && token != "" {
		return ""
	}
	_, err := h.e.keys.verify(token, "https://"+r.Host+r.URL.RequestURI(), h.e.now())
	if err != nil {
		_, err = h.e.keys.verify(token, "https://"+r.Host+r.URL.EscapedPath(), h.e.now())
	}
	if refused, ok := errors.AsType[*claimError](err); ok {
		return refused.description
	}
	if signed, err := parseSAS(token); err != nil || !h.e.rights[signed.keyName].Manage {
		return "Manage,EntityRead claims required for this operation."
	}
	return ""
}

const atomType = "application/atom+xml;type=entry;charset=utf-8"

func (h *adminHandler) answer(w http.ResponseWriter, r *http.Request, title string, content any) {
	self := "https://" + r.Host + r.URL.RequestURI()
	h.write(w, http.StatusOK, atomType, atomEntry{
		ID: self, Title: atomText{Type: "text", Text: title}, Updated: atomTime(h.e.started), Author: h.e.Address(),
		Link: atomLink{Rel: "self", HREF: self}, Content: atomContent{Type: "application/xml", Description: content},
	})
}

func (h *adminHandler) refuse(w http.ResponseWriter, status int, detail string) {
	h.write(w, status, "application/xml; charset=utf-8", adminError{Code: status, Detail: detail})
}

func (h *adminHandler) write(w http.ResponseWriter, status int, contentType string, document any) {
	body, err := xml.Marshal(document)
	if err != nil {
		h.e.log.Debug("document not written", "error", err) // it is this package's own, and has nothing that can't be
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(body)
}
