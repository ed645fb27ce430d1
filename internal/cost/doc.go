// Package cost estimates what a deployment costs a month, row by row, from the deploy options, from
// assumptions about its use, and from a dated price table.
//
// The tables in prices/ are data: every figure names its source and its date, so that a reviewer can
// check one and replace it. Live fills a table from the AWS Price List API instead. A figure that
// could not be sourced is left out, and an estimate that needs it fails and names it; nothing is
// guessed.
//
// Money is computed with exact rational numbers. Each row is rounded to the cent, half away from
// zero, and the total is the sum of the rounded rows: what is printed adds up.
//
// Allowances that AWS grants an account (CloudWatch's free metrics and alarms, credits for new
// accounts) are not counted, because another stack may have used them up. The 100 GB of data a
// month that leave AWS free of charge are: they are a step of the price, granted to every account.
package cost
