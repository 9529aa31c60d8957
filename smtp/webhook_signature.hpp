// The signatures of ESPs' webhooks, verified over the octets that arrived. Amazon SNS (developer guide, "Verifying the
// signatures of Amazon SNS messages"), Twilio SendGrid ("Event webhook security features"), Mailgun ("Securing webhooks").
// Pure; nothing here throws but std::bad_alloc, whatever the octets are.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// A key that verifies. Immutable, may be shared between threads.
class VerifyingKey {
 public:
  struct Native;

  /// The public key of a SendGrid account: base64 of a SubjectPublicKeyInfo for ECDSA on P-256. Null, and `error`, for
  /// anything else.
  static std::shared_ptr<const VerifyingKey> p256(std::string_view base64, std::string& error);
  /// The key of the first certificate in PEM text, RSA of 2048 to 4096 bits. Its time and its issuer are not looked at.
  static std::shared_ptr<const VerifyingKey> certificate(std::string_view pem, std::string& error);

  explicit VerifyingKey(std::unique_ptr<Native> native);
  ~VerifyingKey();
  const Native& native() const { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

/// Whether a certificate in PEM text is in its time at `seconds` since 1970.
bool certificate_valid_at(std::string_view pem, long long seconds);

/// ECDSA over SHA-256 of `timestamp` and `body` one after the other; the signature is base64 of DER.
bool sendgrid_signature_fits(const VerifyingKey& key, std::string_view signature, std::string_view timestamp,
                             std::string_view body);

/// HMAC-SHA256 of timestamp and token one after the other, in hexadecimal. Constant time in what is secret.
bool mailgun_signature_fits(std::string_view signing_key, std::string_view timestamp, std::string_view token,
                            std::string_view signature);

/// What an SNS message is signed over, and what says how to verify it.
struct SnsMessage {
  std::string type;  ///< Notification, SubscriptionConfirmation, UnsubscribeConfirmation
  std::string message;
  std::string message_id;
  std::optional<std::string> subject;
  std::string timestamp;
  std::string topic;
  std::string token;
  std::string subscribe_url;
  std::string signature;          ///< base64
  std::string signature_version;  ///< 1: SHA-1, 2: SHA-256
  std::string certificate_url;
};

/// Names and values, a line each, in the order that Amazon gives. Nullopt for a type that there is not.
std::optional<std::string> sns_signed_text(const SnsMessage& message);
bool sns_signature_fits(const VerifyingKey& key, const SnsMessage& message);

/// The region of "arn:aws:sns:REGION:ACCOUNT:NAME"; empty when it is no such name.
std::string sns_topic_region(std::string_view topic);
/// A part of a URL at Amazon SNS in this region, without "https://HOST": "/?Action=ConfirmSubscription&...". Nullopt for
/// every other scheme, host, port or user name: what is fetched there would otherwise be of the forger's choice.
std::optional<std::string> sns_url_target(std::string_view url, std::string_view region);
/// The same of a certificate: "/SimpleNotificationService-0123abcd.pem" and nothing else, for SNS's API is at that host too,
/// and some of its answers are what the caller wants them to be.
std::optional<std::string> sns_certificate_target(std::string_view url, std::string_view region);
/// The only host that SNS speaks through in a region; empty for a region that cannot be one.
std::string sns_host(std::string_view region);

/// Compares secrets whatever their lengths, without telling how much of them fits.
bool same_secret(std::string_view a, std::string_view b);

}  // namespace egret::smtp
