package web

import "time"

// CloseUnusedAfter makes s close its port sooner; call it before Run.
func CloseUnusedAfter(s *Server, d time.Duration) { s.unusedFor = d }
