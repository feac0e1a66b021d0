package settings

import "strings"

// mergeList returns the text of an array brought from have to want: entries
// that stay keep their bytes, their place and their comments.
func (w *writer) mergeList(n *node, have, want []any) string {
	kept, added := diff(have, want)
	if !strings.Contains(w.text[n.val.start:n.val.end], "\n") {
		return w.mergeLine(n, have, kept, added)
	}
	return w.mergeLines(n, kept, added)
}

// diff says which entries of have stay, and what is new in front of entry i
// (added[len(have)]: at the end). What equals at both ends stays; in between a
// longest common subsequence does, up to a size at which it costs too much.
func diff(have, want []any) (kept []bool, added [][]any) {
	kept, added = make([]bool, len(have)), make([][]any, len(have)+1)
	lo := 0
	for lo < len(have) && lo < len(want) && equalTree(have[lo], want[lo]) {
		kept[lo] = true
		lo++
	}
	h, v := len(have), len(want)
	for h > lo && v > lo && equalTree(have[h-1], want[v-1]) {
		h, v = h-1, v-1
		kept[h] = true
	}
	rows, columns := h-lo, v-lo
	if rows*columns > 1<<20 {
		// In the order of have, as far as that goes.
		j := lo
		for i := lo; i < h; i++ {
			if j < v && equalTree(have[i], want[j]) {
				kept[i] = true
				j++
			}
		}
		added[h] = append(added[h], want[j:v]...)
		return kept, added
	}
	common := make([][]int, rows+1) // length of the longest one of the rests
	for i := range common {
		common[i] = make([]int, columns+1)
	}
	for i := rows - 1; i >= 0; i-- {
		for j := columns - 1; j >= 0; j-- {
			if equalTree(have[lo+i], want[lo+j]) {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < rows || j < columns; {
		switch {
		case i < rows && j < columns && equalTree(have[lo+i], want[lo+j]):
			kept[lo+i] = true
			i, j = i+1, j+1
		case j < columns && (i == rows || common[i][j+1] >= common[i+1][j]):
			added[lo+i] = append(added[lo+i], want[lo+j])
			j++
		default:
			i++
		}
	}
	return kept, added
}

// mergeLine rebuilds an array that stands on one line, so holds no comment.
func (w *writer) mergeLine(n *node, have []any, kept []bool, added [][]any) string {
	var items []string
	for i := range len(have) + 1 {
		for _, v := range added[i] {
			items = append(items, renderValue(v, "", "", false))
		}
		if i < len(have) && kept[i] {
			items = append(items, w.text[n.elements[i].start:n.elements[i].end])
		}
	}
	if n.parent < 0 && len(have) == 0 {
		all := make([]any, 0, len(items))
		for _, list := range added {
			all = append(all, list...)
		}
		return renderValue(all, w.eol(n.key.start), w.indent(n.key.start), true)
	}
	separator, pad := ", ", ""
	if len(have) > 1 {
		separator = w.text[n.elements[0].end:n.elements[1].start]
	}
	if len(have) > 0 && len(items) > 0 {
		pad = w.text[n.val.start+1 : n.elements[0].start]
	}
	return "[" + pad + strings.Join(items, separator) + pad + "]"
}

// mergeLines edits an array over several lines: entries go with their comma,
// lines that become empty go as a whole, new entries get lines of their own.
func (w *writer) mergeLines(n *node, kept []bool, added [][]any) string {
	at := n.val
	gone := make([]bool, at.end-at.start) // by offset in the array
	insert := map[int]string{}
	drop := func(start, end int) {
		for i := start; i < end; i++ {
			gone[i-at.start] = true
		}
	}
	anchor := -1 // the last entry that stays
	for i := range len(kept) + 1 {
		if len(added[i]) > 0 {
			last := true
			for j := i; j < len(kept); j++ {
				last = last && !kept[j]
			}
			w.insertItems(n, anchor, added[i], last, insert)
		}
		if i == len(kept) {
			break
		}
		if kept[i] {
			anchor = i
			continue
		}
		e := n.elements[i]
		drop(e.start, e.end)
		end := e.end
		if e.comma >= 0 {
			drop(e.comma, e.comma+1)
			if strings.TrimSpace(w.text[e.end:e.comma]) == "" && !strings.Contains(w.text[e.end:e.comma], "\n") {
				drop(e.end, e.comma)
				end = e.comma + 1
			}
		}
		switch next := skipBlanks(w.text, end); w.text[next] {
		case '#': // behind another entry the comment stays, otherwise it takes the entry's place
			if strings.TrimSpace(w.text[lineStart(w.text, e.start):e.start]) == "" {
				drop(end, next)
			}
		case '\r', '\n': // no blanks are left at the end of the line
			drop(at.start+1+len(strings.TrimRight(w.text[at.start+1:e.start], " \t")), e.start)
		default:
			drop(end, next)
		}
	}
	var b strings.Builder
	for start := at.start; start < at.end; {
		end := min(at.end, nextLine(w.text, start))
		var line strings.Builder
		touched := false
		for i := start; i < end; i++ {
			line.WriteString(insert[i])
			if gone[i-at.start] {
				touched = true
			} else {
				line.WriteByte(w.text[i])
			}
		}
		if text := line.String(); !touched || strings.TrimSpace(text) != "" {
			b.WriteString(text)
		}
		start = end
	}
	return b.String()
}

// insertItems plans new entries behind the entry anchor (-1: at the start).
// Last says that no entry follows.
func (w *writer) insertItems(n *node, anchor int, items []any, last bool, insert map[int]string) {
	eol := w.eol(n.val.start)
	indent := w.indent(n.val.end-1) + "    "
	for _, e := range n.elements {
		if start := lineStart(w.text, e.start); strings.TrimSpace(w.text[start:e.start]) == "" {
			indent = w.text[start:e.start]
			break
		}
	}
	var texts []string
	for _, v := range items {
		texts = append(texts, renderValue(v, "", "", false)+",")
	}
	if closing := lineStart(w.text, n.val.end-1); len(n.elements) == 0 && strings.TrimSpace(w.text[closing:n.val.end-1]) == "" {
		// Behind the comments of an empty list.
		insert[closing] += indent + strings.Join(texts, eol+indent) + eol
		return
	}
	pos := n.val.start + 1
	if anchor >= 0 {
		e := n.elements[anchor]
		if pos = e.comma + 1; e.comma < 0 {
			pos = e.end
			insert[pos] += ","
		}
	}
	if last && len(n.elements) > 0 && n.elements[len(n.elements)-1].comma < 0 {
		texts[len(texts)-1] = strings.TrimSuffix(texts[len(texts)-1], ",")
	}
	end := lineEnd(w.text, pos)
	if rest := strings.TrimSpace(w.text[pos:end]); rest == "" || rest[0] == '#' {
		insert[end] += eol + indent + strings.Join(texts, eol+indent)
		return
	}
	insert[pos] += " " + strings.Join(texts, " ")
}
