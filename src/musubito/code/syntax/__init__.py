"""Read source text, syntax trees and bytecode."""
