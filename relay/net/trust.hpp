// The certificates that are trusted to sign others: read once for all that need the same ones.
#pragma once

#include <memory>
#include <string>

struct x509_store_st;  // OpenSSL's X509_STORE

namespace egret::relay {

/// The certificates of the file `ca`, or the system's when that is empty. Contexts share what was read (half a megabyte and
/// ten milliseconds for the system's) as long as somebody uses it and the file is the same. Thread-safe; the store itself is
/// OpenSSL's to lock, and not to be changed. Throws std::runtime_error with the file and what is wrong.
std::shared_ptr<x509_store_st> trusted(const std::string& ca);

}  // namespace egret::relay
