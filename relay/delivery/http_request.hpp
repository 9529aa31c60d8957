// The requests of ESPs' HTTP APIs as octets: a message handed over, and the question how the account stands. No sockets
// and no clock here.
//   Amazon SES API v2, SendEmail and GetAccount; Mailgun, POST /v3/DOMAIN/messages.mime; SparkPost, POST /api/v1/transmissions.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "config/http_api.hpp"
#include "relay/delivery/outgoing.hpp"
#include "relay/spool/spool.hpp"
#include "smtp/client_session.hpp"

namespace egret::relay {

enum class MessageCoding {
  plain,   ///< as it is, in a part of multipart/form-data
  base64,  ///< RFC 4648, in a JSON string
  json,    ///< as a JSON string (RFC 8259 section 7): 7-bit messages only
};

/// A request that hands over a message: what stands before it and after it.
struct Submission {
  std::string target;
  std::string content_type;
  std::string before, after;
  MessageCoding coding = MessageCoding::plain;
};

/// Recipients are named there and nowhere else: no field of the message is made of them. `orders` is the smarthost's
/// `headers.add`: what the API has a place for stands there too. `boundary` must be unpredictable, of letters and digits.
Submission submission(const config::HttpApi& api, const smtp::Envelope& envelope,
                      const std::vector<std::pair<std::string, std::string>>& orders, std::string_view boundary);

/// Whether the API takes octets above 127.
bool takes_eight_bit(config::HttpApiKind kind);

/// The header section of a request, with the login. `body_sha256` is hexadecimal; only SES needs it.
std::string request_head(const config::HttpApi& api, const Submission& submission, std::uint64_t length,
                         const std::string& body_sha256, routing::Time now);
/// Text of a server for logs and reports, without the login: some send back what they were sent. As it is configured and as
/// it travels, also in a JSON string whose slashes are escaped.
std::string without_secret(const config::HttpApi& api, std::string text);
/// A whole request that shows whether the login is good and sends nothing: GetAccount, the domain, the account.
std::string account_request(const config::HttpApi& api, routing::Time now);

/// The body of a submission piece by piece: never more of a message in memory than one extent of it and what is made of it.
class HttpBody {
 public:
  /// All must outlive it.
  HttpBody(const Outgoing& outgoing, const Submission& submission, spool::Spool& spool);

  /// The next octets, never none of them before the end; empty at the end, and when failed().
  boost::asio::awaitable<std::string> next();
  /// The message cannot be read from the spool.
  bool failed() const { return failed_; }

 private:
  enum class Stage { before, head, stored, after, end };

  boost::asio::awaitable<std::string> stored_piece();
  std::string sent_part(std::string_view stored);
  std::string coded(std::string_view wire);
  std::string last();

  const Outgoing& outgoing_;
  const Submission& submission_;
  spool::Spool& spool_;
  Stage stage_ = Stage::before;
  std::size_t piece_ = 0;     // of extents and tail, counted through
  std::uint64_t offset_ = 0;  // of the stored body
  bool line_start_ = true;
  std::string rest_;  // up to two octets that wait for a third (base64)
  bool failed_ = false;
};

}  // namespace egret::relay
