// Package page looks at the HTML report as people see it: in a browser, on a desk, on
// a phone and on paper. It is nothing but tests; the browser is Chromium without a
// window, spoken to over a pair of pipes.
package page
