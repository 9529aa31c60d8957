#include "smtp/dkim.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>

#include "smtp/address.hpp"
#include "smtp/dkim_canonical.hpp"
#include "smtp/text.hpp"

namespace egret::smtp {
namespace {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};

using Pkey = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Release<EVP_MD_CTX_free>>;
using MemoryBio = std::unique_ptr<BIO, Release<BIO_free>>;

constexpr std::size_t sha256_size = 32;
constexpr int min_rsa_bits = 1024;
constexpr int good_rsa_bits = 2048;
constexpr int max_rsa_bits = 4096;
constexpr std::size_t max_signed_fields = 100;
constexpr std::size_t line_length = 78;

struct SignedName {
  std::string_view name;
  bool oversign;
};

/// Oversigned: named once more than it occurs, so that nobody can add another one below our name (RFC 6376 sections 5.4
/// and 8.15). These are what a reader is shown and what clients act on; the rest is signed where it occurs.
/// Content-Disposition is among them, as it decides with Content-Type whether a body is shown or saved, and as what.
/// Not signed: trace fields (Received, Return-Path: RFC 6376 section 5.4.1) and Resent-*, which is trace too (RFC 5322
/// section 3.6.6: every resender adds its own set), so that it speaks for who resent the message, not for its author.
constexpr SignedName signed_names[] = {
    {"from", true},
    {"to", true},
    {"cc", true},
    {"subject", true},
    {"date", true},
    {"message-id", true},
    {"reply-to", true},
    {"mime-version", true},
    {"content-type", true},
    {"list-unsubscribe", true},  // RFC 8058 section 4 wants both covered
    {"list-unsubscribe-post", true},
    {"sender", false},
    {"in-reply-to", false},
    {"references", false},
    {"content-transfer-encoding", false},
    {"content-disposition", false},
    {"list-id", false},
    {"feedback-id", false},
};

std::size_t count_from(const std::vector<HeaderField>& fields) {
  return static_cast<std::size_t>(std::ranges::count_if(fields, [](const HeaderField& f) { return iequals(f.name, "from"); }));
}

// --- Keys ---

/// libcrypto must not ask the terminal. Notes that a passphrase would have been needed.
int refuse_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

Pkey read_private_key(std::string_view pem, std::string& error) {
  constexpr std::size_t max_pem = 64 * 1024;
  if (pem.size() > max_pem) {
    error = "too large for a private key in PEM form";
    return nullptr;
  }
  const MemoryBio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  bool asked = false;
  Pkey key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, refuse_passphrase, &asked) : nullptr);
  ERR_clear_error();  // the queue belongs to the thread: what is left in it is taken for an error of its next TLS call
  if (key) return key;
  if (asked || pem.find("ENCRYPTED") != std::string_view::npos)
    error = "the private key is encrypted: store it without a passphrase";
  else if (pem.find("PUBLIC KEY-----") != std::string_view::npos)
    error = "this is a public key: the private key is needed";
  else if (pem.find("-----BEGIN ") == std::string_view::npos)
    error = "not a PEM file (no \"-----BEGIN PRIVATE KEY-----\")";
  else
    error = "no readable private key in the PEM file";
  return nullptr;
}

/// What is wrong with a key, or empty.
std::string key_problem(const EVP_PKEY* key) {
  const int type = EVP_PKEY_get_base_id(key);
  if (type == EVP_PKEY_ED25519) return {};
  if (type != EVP_PKEY_RSA) return "neither an RSA nor an Ed25519 key: DKIM has no other algorithm";
  const int bits = EVP_PKEY_get_bits(key);
  if (bits < min_rsa_bits) return "RSA key of " + std::to_string(bits) + " bits: at least 1024 are needed, 2048 recommended";
  if (bits > max_rsa_bits) return "RSA key of " + std::to_string(bits) + " bits: verifiers need not take more than 4096";
  return {};
}

std::string bytes(const unsigned char* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

std::string sha256(std::string_view data) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(data.data(), data.size(), digest, &size, EVP_sha256(), nullptr) != 1) return {};
  return bytes(digest, size);
}

// --- The field ---

/// The fields to sign: their names in the order of h=, and their canonical form in the same order.
struct Selection {
  std::vector<std::string_view> names;
  std::string canonical;
};

Selection select(const std::vector<HeaderField>& fields, const std::vector<std::string>& exclude) {
  Selection out;
  for (const auto& [name, oversign] : signed_names) {
    if (std::ranges::any_of(exclude, [&](const std::string& other) { return iequals(other, name); })) continue;
    // Several fields of one name are taken from the bottom up (RFC 6376 section 5.4.2).
    for (auto field = fields.rbegin(); field != fields.rend() && out.names.size() <= max_signed_fields; ++field) {
      if (!iequals(field->name, name)) continue;
      out.names.push_back(name);
      out.canonical += relaxed_field(field->name, field->value);
    }
    if (oversign) out.names.push_back(name);
  }
  return out;
}

/// Appends `token` to a header field that grows, behind `gap` on the same line where it fits, else on a new line.
void add(std::string& field, std::string_view gap, std::string_view token) {
  const std::size_t line_start = field.rfind('\n') + 1;  // npos + 1: the first line
  const bool fits = field.size() - line_start + gap.size() + token.size() <= line_length;
  field += fits ? gap : std::string_view("\r\n\t");
  field += token;
}

/// The field up to "b=", which is what the signature covers of it (RFC 6376 section 3.5, 3.7).
std::string unsigned_field(const DkimKey& key, const DkimOptions& options, const Selection& selection,
                           std::string_view body_hash) {
  std::string field = "DKIM-Signature: v=1;";
  add(field, " ", "a=" + std::string(key.algorithm()) + ';');
  add(field, " ", "c=relaxed/relaxed;");
  add(field, " ", "d=" + options.domain + ';');
  add(field, " ", "s=" + options.selector + ';');
  if (options.time >= 0) add(field, " ", "t=" + std::to_string(options.time) + ';');
  for (std::size_t i = 0; i < selection.names.size(); ++i) {
    const bool last = i + 1 == selection.names.size();
    add(field, i == 0 ? " " : "", (i == 0 ? "h=" : "") + std::string(selection.names[i]) + (last ? ';' : ':'));
  }
  add(field, " ", "bh=" + base64_encode(body_hash) + ';');
  return field += "\r\n\tb=";
}

// --- The From field ---

/// Position behind the comment or quoted string that starts at `at`, or npos when it does not end.
std::size_t skip_delimited(std::string_view text, std::size_t at) {
  const bool comment = text[at] == '(';
  std::size_t depth = 1;
  for (std::size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (comment && text[i] == '(')
      ++depth;
    else if (text[i] == (comment ? ')' : '"') && --depth == 0)
      return i + 1;
  }
  return std::string_view::npos;
}

/// Reads an address list (RFC 5322 section 3.4) up to the end of its first address.
class FirstAddress {
 public:
  /// The address without comments and blanks around it; nullopt for broken syntax.
  std::optional<std::string> read(std::string_view list);

 private:
  enum class Place { outside, in_angle, behind_angle };

  bool special(char c);
  void append(std::string_view token);

  Place place_ = Place::outside;
  bool in_group_ = false;
  bool blank_ = false;
  std::string text_;
};

std::optional<std::string> FirstAddress::read(std::string_view list) {
  for (std::size_t i = 0; i < list.size();) {
    const char c = list[i];
    std::size_t end = i + 1;
    if (c == '(' || c == '"') end = skip_delimited(list, i);
    if (end == std::string_view::npos) return std::nullopt;
    const bool separator = c == ',' || c == ';';
    if (separator && place_ != Place::in_angle) break;
    if (c == '(' || std::string_view(" \t\r\n").find(c) != std::string_view::npos) {
      blank_ = true;
    } else if (c == '<' || c == '>' || (c == ':' && place_ != Place::in_angle)) {
      if (!special(c)) return std::nullopt;
    } else {
      if (place_ == Place::behind_angle) return std::nullopt;
      append(list.substr(i, end - i));
    }
    i = end;
  }
  if (place_ == Place::in_angle) return std::nullopt;
  return text_;
}

/// '<', '>' or the ':' behind a group's name: what was read so far was a name. False where it must not stand.
bool FirstAddress::special(char c) {
  switch (place_) {
    case Place::outside:
      if (c == '>' || (c == ':' && in_group_)) return false;
      if (c == '<') place_ = Place::in_angle;
      if (c == ':') in_group_ = true;
      text_.clear();
      return true;
    case Place::in_angle:
      if (c != '>') return false;
      place_ = Place::behind_angle;
      return true;
    case Place::behind_angle:
      return false;
  }
  return false;
}

/// Blanks may stand around the "@"; anywhere else in an address the blank that is kept makes it invalid.
void FirstAddress::append(std::string_view token) {
  if (blank_ && !text_.empty() && text_.back() != '@' && token != "@") text_ += ' ';
  blank_ = false;
  text_ += token;
}

}  // namespace

struct DkimKey::Impl {
  Pkey key;
  bool rsa;
};

DkimKey::DkimKey(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
DkimKey::~DkimKey() = default;

std::shared_ptr<const DkimKey> DkimKey::load(std::string_view pem, std::string& error) {
  error.clear();
  Pkey key = read_private_key(pem, error);
  if (!key) return nullptr;
  error = key_problem(key.get());
  if (!error.empty()) return nullptr;
  const bool rsa = EVP_PKEY_get_base_id(key.get()) == EVP_PKEY_RSA;
  return std::shared_ptr<const DkimKey>(new DkimKey(std::make_unique<const Impl>(Impl{std::move(key), rsa})));
}

std::string_view DkimKey::algorithm() const {
  return impl_->rsa ? "rsa-sha256" : "ed25519-sha256";
}

bool DkimKey::weak() const {
  return impl_->rsa && EVP_PKEY_get_bits(impl_->key.get()) < good_rsa_bits;
}

std::string DkimKey::dns_record() const {
  if (!impl_->rsa) {
    unsigned char raw[32];  // RFC 8463 section 4: the bare key, no ASN.1
    std::size_t size = sizeof raw;
    if (EVP_PKEY_get_raw_public_key(impl_->key.get(), raw, &size) != 1) return {};
    return "v=DKIM1; k=ed25519; p=" + base64_encode(bytes(raw, size));
  }
  unsigned char* der = nullptr;  // RFC 6376 section 3.6.1 as everybody reads it: a SubjectPublicKeyInfo
  const int size = i2d_PUBKEY(impl_->key.get(), &der);
  if (size <= 0) return {};
  std::string record = "v=DKIM1; k=rsa; p=" + base64_encode(bytes(der, static_cast<std::size_t>(size)));
  OPENSSL_free(der);
  return record;
}

std::optional<std::string> DkimKey::sign(std::string_view data) const {
  // RFC 8463 section 3: Ed25519 signs the SHA-256 of the data, as if that were the message.
  const std::string digest = impl_->rsa ? std::string() : sha256(data);
  const std::string_view input = impl_->rsa ? data : digest;
  const DigestContext context(EVP_MD_CTX_new());
  unsigned char signature[max_rsa_bits / 8];
  std::size_t size = sizeof signature;
  const bool done =
      context && !input.empty() &&
      EVP_DigestSignInit(context.get(), nullptr, impl_->rsa ? EVP_sha256() : nullptr, nullptr, impl_->key.get()) == 1 &&
      EVP_DigestSign(context.get(), signature, &size, reinterpret_cast<const unsigned char*>(input.data()), input.size()) == 1;
  if (!done) {
    ERR_clear_error();
    return std::nullopt;
  }
  return bytes(signature, size);
}

struct DkimBodyHash::Impl {
  Impl(const Impl&) = delete;  // the sink of `body` points here
  Impl() { ok = digest && EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) == 1; }

  DigestContext digest{EVP_MD_CTX_new()};
  bool ok;
  RelaxedBody body{
      [this](std::string_view piece) { ok = ok && EVP_DigestUpdate(digest.get(), piece.data(), piece.size()) == 1; }};
};

DkimBodyHash::DkimBodyHash() : impl_(std::make_unique<Impl>()) {}
DkimBodyHash::DkimBodyHash(DkimBodyHash&&) noexcept = default;
DkimBodyHash& DkimBodyHash::operator=(DkimBodyHash&&) noexcept = default;
DkimBodyHash::~DkimBodyHash() = default;

void DkimBodyHash::update(std::string_view wire) {
  impl_->body.update(wire);
}

std::string DkimBodyHash::finish() {
  impl_->body.finish();
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (!impl_->ok || EVP_DigestFinal_ex(impl_->digest.get(), digest, &size) != 1) {
    ERR_clear_error();
    return {};
  }
  return bytes(digest, size);
}

std::string dkim_field(const DkimKey& key, const DkimOptions& options, std::string_view header_block,
                       std::string_view body_hash) {
  if (body_hash.size() != sha256_size || !valid_domain(options.domain, false) || !valid_domain(options.selector, false))
    return {};
  const std::string content = unstuff(header_block);
  const auto fields = split_header(content);
  if (!fields || count_from(*fields) != 1) return {};
  const Selection selection = select(*fields, options.exclude);
  if (selection.names.empty() || selection.names.front() != "from" || selection.names.size() > max_signed_fields) return {};
  std::string field = unsigned_field(key, options, selection, body_hash);
  const std::string_view value = std::string_view(field).substr(field.find(':') + 1);
  std::string own = relaxed_field("dkim-signature", value);
  own.resize(own.size() - 2);  // the field's own CRLF is not hashed (RFC 6376 section 3.7)
  const auto signature = key.sign(selection.canonical + own);
  if (!signature) return {};
  const std::string encoded = base64_encode(*signature);
  constexpr std::size_t piece = line_length - 6;
  for (std::size_t at = 0; at < encoded.size(); at += piece) {
    if (at > 0) field += "\r\n\t";
    field += std::string_view(encoded).substr(at, piece);
  }
  return field += "\r\n";
}

std::optional<std::string> from_domain(std::string_view header_block) {
  const std::string content = unstuff(header_block);
  const auto fields = split_header(content);
  if (!fields || count_from(*fields) != 1) return std::nullopt;
  const auto from = std::ranges::find_if(*fields, [](const HeaderField& f) { return iequals(f.name, "from"); });
  const auto text = FirstAddress().read(from->value);
  const auto address = text ? parse_mailbox(*text, true) : std::nullopt;
  if (!address || address->domain.starts_with('[')) return std::nullopt;
  return lower(address->domain);
}

}  // namespace egret::smtp
