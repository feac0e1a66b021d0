package control

// Dial is what a [Client] calls, for tests that write the bytes themselves.
var Dial = dial
