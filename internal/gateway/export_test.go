package gateway

import "net/http"

// Through makes the gateway reach its upstream another way.
func (g *Gateway) Through(transport http.RoundTripper) { g.transport = transport }
