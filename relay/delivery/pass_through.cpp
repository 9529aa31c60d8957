#include "relay/delivery/pass_through.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <memory>

#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_lines = 20;
constexpr std::size_t max_line = 450;  // with code and CRLF within the 512 of RFC 5321 section 4.5.3.1.5

/// Remote text as our own reply: Reply's lines are printable already, here they are bounded. Not every server has
/// something to say, and what marks our own words in the log is nobody else's business.
std::string lines_of(const smtp::Reply& reply, int code) {
  std::string out;
  for (std::size_t i = 0; i < reply.lines.size() && i < max_lines; ++i) {
    std::string line(smtp::cut_text(smtp::printable(reply.lines[i]), max_line));
    if (const std::size_t ours = line.find("(local) "); ours != std::string::npos) line.erase(ours, 8);
    if (i > 0) out += '\n';
    out += line;
  }
  if (!smtp::trim(out).empty()) return out;
  return std::to_string(code / 100) + (code / 100 == 2 ? ".0.0 ok" : ".0.0 the receiver gave no reason");
}

const Settled* first(const std::vector<Settled>& results, Settled::End end) {
  for (const Settled& result : results)
    if (result.end == end) return &result;
  return nullptr;
}

}  // namespace

PassThroughAnswer answer_of(const std::vector<Settled>& results, const std::string& id) {
  PassThroughAnswer out;
  if (const Settled* delivered = first(results, Settled::End::delivered)) {
    for (std::uint32_t i = 0; i < results.size(); ++i) {
      if (results[i].end == Settled::End::deferred) out.deferred.push_back(i);
      if (results[i].end == Settled::End::failed) out.failed.push_back(i);
    }
    out.text = lines_of(delivered->reply, 250);
    if (!out.deferred.empty() || !out.failed.empty()) out.text = "2.0.0 delivered in part, the rest is queued as " + id;
    return out;
  }
  const Settled* deferred = first(results, Settled::End::deferred);
  const Settled* decisive = deferred ? deferred : first(results, Settled::End::failed);
  if (!decisive) return {451, "4.3.0 no verdict (" + id + ")", {}, {}};
  const int code = decisive->reply.code;
  if (!deferred) {
    out.code = code >= 500 && code < 600 ? code : 554;
    out.text = lines_of(decisive->reply, out.code);
    return out;
  }
  out.code = code >= 450 && code < 500 ? code : 451;
  out.text = lines_of(decisive->reply, out.code);
  // Every way out was refused for its own sake: that is no verdict on the message, and the client keeps it.
  if (decisive->reply.permanent()) {
    out.text = "4.7.1 no way out is left: " + std::string(smtp::cut_text(decisive->reply.to_string(), max_line));
    std::ranges::replace(out.text, '\n', ' ');
  }
  return out;
}

void PassThrough::settle_one(std::size_t index, const Settled& how) {
  if (results_[index].end != Settled::End::open) return;
  results_[index] = how;
  --open_;
}

void PassThrough::settle(const std::vector<std::uint32_t>& recipients, const Settled& how) {
  const std::lock_guard lock(mutex_);
  for (const std::uint32_t index : recipients) settle_one(index, how);
  finish_if_done();
}

void PassThrough::give_up(const std::string& reply) {
  const Settled how{Settled::End::deferred, smtp::parse_reply(reply), "", {}};
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < results_.size(); ++i) settle_one(i, how);
  finish_if_done();
}

void PassThrough::finish_if_done() {
  if (open_ > 0 || !waiting_) return;
  boost::asio::post(executor_, [results = results_, waiting = std::make_shared<decltype(waiting_)>(std::move(waiting_))] {
    (*waiting)->complete(results);
  });
}

boost::asio::awaitable<std::vector<Settled>> PassThrough::wait() {
  const auto begin = [this](OperationPtr<std::vector<Settled>> operation) {
    const std::lock_guard lock(mutex_);
    waiting_ = std::move(operation);
    finish_if_done();
  };
  co_return co_await await_operation<std::vector<Settled>>(begin);
}

}  // namespace egret::relay
