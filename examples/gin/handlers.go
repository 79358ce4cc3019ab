package main

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sealhttp/sealhttp/examples/internal/events"
)

// handlers are the API's, as gin has them. None of them knows whether its call is
// sealed.
type handlers struct{ *events.Service }

// account returns what Authenticate has found.
func account(c *gin.Context) string { return c.GetString("account") }

func (h handlers) Authenticate(c *gin.Context) {
	account, err := h.Service.Account(c.Request)
	if err != nil {
		c.Abort()
		events.WriteProblem(c.Writer, err)
		return
	}
	c.Set("account", account)
}

// renderError answers with the error that a handler has left in c.Errors.
func renderError(c *gin.Context) {
	c.Next()
	if last := c.Errors.Last(); last != nil && !c.Writer.Written() {
		err := last.Err
		if last.IsType(gin.ErrorTypeBind) {
			err = events.NewProblem(http.StatusBadRequest, err.Error())
		}
		events.WriteProblem(c.Writer, err)
	}
}

func (h handlers) Create(c *gin.Context) {
	var in events.NewEvent
	if err := c.ShouldBindJSON(&in); err != nil {
		_ = c.Error(err).SetType(gin.ErrorTypeBind)
		return
	}
	event, err := h.Service.Create(account(c), in)
	if err != nil {
		_ = c.Error(err)
		return
	}
	c.Header("Location", fmt.Sprintf("/events/%d", event.ID))
	c.JSON(http.StatusCreated, event)
}

func (h handlers) List(c *gin.Context) {
	var q events.Query
	if err := c.ShouldBindQuery(&q); err != nil {
		_ = c.Error(err).SetType(gin.ErrorTypeBind)
		return
	}
	page, err := h.Service.List(account(c), q)
	answer(c, page, err)
}

func (h handlers) Get(c *gin.Context) {
	id, err := events.ParseID(c.Param("id"))
	if err != nil {
		_ = c.Error(err)
		return
	}
	event, err := h.Service.Get(account(c), id)
	answer(c, event, err)
}

func (h handlers) Delete(c *gin.Context) {
	id, err := events.ParseID(c.Param("id"))
	if err == nil {
		err = h.Service.Delete(account(c), id)
	}
	if err != nil {
		_ = c.Error(err)
		return
	}
	c.Status(http.StatusNoContent)
}

func (h handlers) Search(c *gin.Context) {
	var in events.PersonQuery
	if err := c.ShouldBindJSON(&in); err != nil {
		_ = c.Error(err).SetType(gin.ErrorTypeBind)
		return
	}
	page, err := h.Service.Search(account(c), in)
	answer(c, page, err)
}

func (h handlers) PutKey(c *gin.Context) {
	keyset, err := c.GetRawData()
	if err != nil {
		_ = c.Error(err).SetType(gin.ErrorTypeBind)
		return
	}
	key, err := h.Service.Register(account(c), keyset)
	answer(c, key, err)
}

func answer(c *gin.Context, v any, err error) {
	if err != nil {
		_ = c.Error(err)
		return
	}
	c.JSON(http.StatusOK, v)
}
